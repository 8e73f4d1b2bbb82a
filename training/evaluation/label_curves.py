"""What the runs of the study of outlines say together: paired differences, labels saved, what the scores follow.

Intervals are of the bootstrap, over seeds and images both, as `training.evaluation.seeds` explains.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.evaluation.seeds import RESAMPLES, bounds, resampled

Values = NDArray[np.float64]
Interval = tuple[float, float, float]
TOLERANCE: Final = 0.002
RANKED: Final = RESAMPLES // 5
"""Resamples of what has to be ranked anew in each."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of P radiographs without an outline, `ids`: errors (M, P) of M members, 1 - Dice, and scores (P,) by measure."""

    ids: tuple[str, ...]
    errors: Values
    scores: dict[str, Values]

    @classmethod
    def read(cls, kept: dict[str, Any]) -> "Agreement":
        """As a run's result has it."""
        scores = {measure: np.array(values) for measure, values in kept["scores"].items()}
        return cls(tuple(kept["ids"]), np.array(kept["errors"]), scores)


@dataclass(frozen=True, slots=True)
class Curve:
    """One complete run of R rounds.

    `labels` and `steps` (R,) have led to the Dice (R, M, N) of each of M members on N test outlines, and to that of
    their mean probability, `together` (R, N). Only the paper's committee has an `agreement` for each round.
    """

    set: str
    arm: str
    seed: int
    labels: tuple[int, ...]
    steps: tuple[int, ...]
    dice: Values
    together: Values
    agreement: tuple[Agreement, ...] = ()
    cpu_seconds: float = 0.0

    @classmethod
    def read(cls, path: Path, set_: str, arm: str, seed: int) -> "Curve":
        """From the result that a run has kept."""
        result: dict[str, Any] = json.loads(path.read_text())
        rounds = result["rounds"]
        found = [entry["agreement"] for entry in rounds if "agreement" in entry]
        return cls(
            set_, arm, seed,
            tuple(entry["labels"] for entry in rounds), tuple(entry["steps"] for entry in rounds),
            np.array([entry["dice"] for entry in rounds]), np.array([entry["together"] for entry in rounds]),
            tuple(Agreement.read(entry) for entry in found), result["cpu_seconds"],
        )  # fmt: skip

    @property
    def first(self) -> Values:
        """Dice (R, N) of the first member, which learns by the same draws in every arm."""
        return self.dice[:, 0]


@dataclass(frozen=True, slots=True)
class Saving:
    """What it takes ours and the others to reach a Dice, in labels (infinite: never), and how many ours save.

    `never` is the share of resamples in which one of the two does not reach it.
    """

    target: float
    ours: float
    others: float
    saved: Interval
    never: float


def shared(ours: Sequence[Curve], others: Sequence[Curve], *, together: bool = False) -> tuple[Values, Values]:
    """Dice (S, R, N) of both in the seeds that both have completed: of first members, or of all of ours together."""
    by_seed = {curve.seed: curve.first for curve in others}
    of_both = [curve for curve in ours if curve.seed in by_seed]
    if not of_both:
        return np.zeros((0, 0, 0)), np.zeros((0, 0, 0))
    chosen = np.stack([curve.together if together else curve.first for curve in of_both])
    return chosen, np.stack([by_seed[curve.seed] for curve in of_both])


def differences(ours: Values, others: Values) -> list[Interval]:
    """Mean of ours minus others, both (S, R, N), in each round, with an interval over seeds and outlines."""
    if not ours.size:
        return []
    apart = ours - others
    between = map(bounds, resampled(apart).T)
    return [(float(mean), *ends) for mean, ends in zip(apart.mean(axis=(0, 2)), between, strict=True)]


def labels_to_reach(labels: Sequence[int], dice: Values, target: float) -> float:
    """From how many labels on a curve of mean Dice (R,) stays at a target, or at most TOLERANCE below; inf: never.

    Between rounds it is taken to be a line.
    """
    goal = target - TOLERANCE
    below = np.flatnonzero(dice < goal)
    if not below.size:
        return float(labels[0])
    last = int(below[-1])
    if last == len(dice) - 1:
        return math.inf
    share = (goal - dice[last]) / (dice[last + 1] - dice[last])
    return float(labels[last] + share * (labels[last + 1] - labels[last]))


def savings(labels: Sequence[int], ours: Values, others: Values, share: float) -> Saving:
    """How many labels ours save against others at equal Dice, both (S, R, N), with an interval over seeds and outlines.

    The Dice to reach is a share of the way that the mean of both goes from the first round to the last, so that
    neither is favoured. Whoever never reaches it counts as if the last round had: what is saved, or lost, is then more.
    """

    def needed(a: Values, b: Values) -> tuple[float, float, float]:
        both = (a + b) / 2
        target = both[0] + share * (both[-1] - both[0])
        return float(target), labels_to_reach(labels, a, target), labels_to_reach(labels, b, target)

    def saved(mine: float, theirs: float) -> float:
        return min(theirs, labels[-1]) - min(mine, labels[-1])

    target, mine, theirs = needed(ours.mean(axis=(0, 2)), others.mean(axis=(0, 2)))
    drawn = np.array([needed(*pair)[1:] for pair in zip(resampled(ours), resampled(others), strict=True)])
    low, high = bounds(np.array([saved(*pair) for pair in drawn]))
    never = float(np.isinf(drawn).any(axis=1).mean())
    return Saving(target, mine, theirs, (saved(mine, theirs), low, high), never)


def followed(runs: Sequence[Sequence[Agreement]], measure: str, *, member: int | None = None) -> Interval | None:
    """Rank correlation of a measure with the error of one member, or of all on average, mean over runs and rounds.

    The interval is over runs, one a seed, and radiographs; None where nothing can be ranked.
    """
    ids = sorted({id_ for rounds in runs for entry in rounds for id_ in entry.ids})
    numbers = {id_: number for number, id_ in enumerate(ids)}
    ranked = [[_Ranked.of(entry, measure, member, numbers) for entry in rounds] for rounds in runs if rounds]
    whole = _mean([entry.correlation(np.arange(len(ids))) for rounds in ranked for entry in rounds])
    if math.isnan(whole):
        return None
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RANKED):
        seeds, radiographs = rng.integers(len(ranked), size=len(ranked)), rng.integers(len(ids), size=len(ids))
        drawn.append(_mean([entry.correlation(radiographs) for seed in seeds for entry in ranked[seed]]))
    return whole, *bounds(np.array(drawn))


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Scores and errors (P,), and where each radiograph of all runs has its own, `places`; -1: nowhere."""

    scores: Values
    errors: Values
    places: NDArray[np.int64]

    @classmethod
    def of(cls, entry: Agreement, measure: str, member: int | None, numbers: dict[str, int]) -> "_Ranked":
        errors = entry.errors.mean(axis=0) if member is None else entry.errors[member]
        places = np.full(len(numbers), -1)
        places[[numbers[id_] for id_ in entry.ids]] = np.arange(len(entry.ids))
        return cls(entry.scores[measure], errors, places)

    def correlation(self, radiographs: NDArray[np.int64]) -> float:
        """Of those of the radiographs, by number and perhaps several times, that are here."""
        places = self.places[radiographs]
        places = places[places >= 0]
        return rank_correlation(self.scores[places], self.errors[places])


def rank_correlation(one: Values, other: Values) -> float:
    """Spearman's, of values (P,); nan where those of one are all equal."""
    if len(one) < 2:
        return math.nan
    a, b = (ranks - ranks.mean() for ranks in (rank(one), rank(other)))
    spread = math.sqrt((a @ a) * (b @ b))
    return float(a @ b) / spread if spread else math.nan


def rank(values: Values) -> Values:
    """Ranks (N,) of values (N,), equal ones sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Values = (last - (counts - 1) / 2)[inverse]
    return ranks


def _mean(values: Sequence[float]) -> float:
    """Of those that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
