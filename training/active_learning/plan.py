"""How a committee learns and asks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.core.domain.preprocess import SEGMENT_PX
from training.active_learning.learner import Phase
from training.active_learning.strategies import Name


@dataclass(frozen=True, slots=True)
class Plan:
    """How a committee learns and asks.

    It has converged when its Dice on the selection has not risen by `least_gain` for `patience` rounds, or when it has
    `maximum_labels`. Members go on `from_previous` weights, as in the paper, or begin anew each round; the first round
    takes the phases `first`, where there are some, since it begins with nothing.
    """

    strategy: Name
    members: int
    start: int
    per_round: int
    maximum_labels: int
    phases: tuple[Phase, ...]
    validate_every: int
    seed: int
    patience: int = 2
    least_gain: float = 0.002
    dropout: float = 0.0
    from_previous: bool = True
    size_px: int = SEGMENT_PX
    first: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        if self.strategy in ("committee", "vote_entropy") and self.members < 2:
            raise ValueError(f"a committee has at least 2 members, not {self.members}")
        if self.strategy == "mc_dropout" and not self.dropout:
            raise ValueError("mc_dropout needs a share of dropout")
        if min(self.start, self.per_round) < 1:
            raise ValueError("at least one outline is asked for at the start and in each round")

    @property
    def rounds(self) -> int:
        """How many there are until `maximum_labels`, where the committee does not converge before."""
        return 1 + max(0, -(-(self.maximum_labels - self.start) // self.per_round))

    def phases_of(self, number: int) -> tuple[Phase, ...]:
        """What a round's members learn by."""
        return self.phases if number else self.first or self.phases

    def steps(self, number: int) -> int:
        """How many steps have led to a member of a round."""
        learnt = range(0 if self.from_previous else number, number + 1)
        return sum(phase.steps for earlier in learnt for phase in self.phases_of(earlier))

    def member_seed(self, member: int) -> int:
        """Of a member's weights; what a round draws follows from it."""
        return self.seed * 1000 + member

    def drawn(self, pool: Sequence[str], *, there: int = 0) -> list[str]:
        """What is outlined first, whatever the strategy, beside as many outlines as are `there` already."""
        count = max(0, self.start - there)
        return [pool[i] for i in np.random.default_rng(self.seed).permutation(len(pool))[:count]]
