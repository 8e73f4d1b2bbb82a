"""Which radiographs to outline next: one interface, the paper's committee and what it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Measure: TypeAlias = Literal["dissimilarity", "vote_entropy", "mutual_information", "entropy"]
Name: TypeAlias = Literal["committee", "vote_entropy", "mc_dropout", "entropy", "coreset", "random"]


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of the radiographs without an outline, in order of id.

    `scores` holds a value (N,) for each measure that the strategy asked for; `embeddings` (N, K) are pooled features,
    empty (N, 0) where they were not asked for.
    """

    ids: Sequence[str]
    scores: Mapping[Measure, NDArray[np.float64]]
    embeddings: NDArray[np.float32]


class Strategy(Protocol):
    """Chooses from a pool."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What must be measured of every image of the pool."""

    @property
    def embeds(self) -> bool:
        """Whether pooled features are needed, of the pool and of what is outlined."""

    def choose(self, pool: Pool, labelled: NDArray[np.float32], count: int, *, seed: int) -> list[str]:
        """`count` different ids of the pool, or all where it has fewer; `labelled` (M, K) are embeddings."""


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest of one measure; of equals the first in order of id."""

    measure: Measure
    embeds: bool = False

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The one."""
        return (self.measure,)

    def choose(self, pool: Pool, labelled: NDArray[np.float32], count: int, *, seed: int) -> list[str]:
        """By stable order."""
        del labelled, seed
        return [pool.ids[i] for i in np.argsort(-pool.scores[self.measure], kind="stable")[:count]]


@dataclass(frozen=True, slots=True)
class Coreset:
    """Each the farthest from all that are outlined or chosen: greedy k-centre.

    Sener O, Savarese S, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018.
    """

    measures: tuple[Measure, ...] = ()
    embeds: bool = True

    def choose(self, pool: Pool, labelled: NDArray[np.float32], count: int, *, seed: int) -> list[str]:
        """Greedily; of equals the first in order of id. With nothing outlined yet the first is drawn."""
        points = pool.embeddings.astype(np.float64)
        nearest = np.full(len(points), np.inf)
        for point in labelled.astype(np.float64):
            nearest = np.minimum(nearest, np.linalg.norm(points - point, axis=1))
        chosen: list[int] = []
        for _ in range(min(count, len(points))):
            nearest[chosen] = -1
            empty = not len(labelled) and not chosen
            index = int(np.random.default_rng(seed).integers(len(points))) if empty else int(np.argmax(nearest))
            chosen.append(index)
            nearest = np.minimum(nearest, np.linalg.norm(points - points[index], axis=1))
        return [pool.ids[i] for i in chosen]


@dataclass(frozen=True, slots=True)
class Random:
    """Drawn: what every strategy must beat."""

    measures: tuple[Measure, ...] = ()
    embeds: bool = False

    def choose(self, pool: Pool, labelled: NDArray[np.float32], count: int, *, seed: int) -> list[str]:
        """Without replacement."""
        del labelled
        return [pool.ids[i] for i in np.random.default_rng(seed).permutation(len(pool.ids))[:count]]


STRATEGIES: Final[dict[Name, Strategy]] = {
    "committee": Highest("dissimilarity"),
    "vote_entropy": Highest("vote_entropy"),
    "mc_dropout": Highest("mutual_information"),
    "entropy": Highest("entropy"),
    "coreset": Coreset(),
    "random": Random(),
}
