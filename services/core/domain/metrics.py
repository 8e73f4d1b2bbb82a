"""Figures of merit, each with a bootstrap interval where it is an average over radiographs."""

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

OLDEST_MONTHS: Final = 360
"""No label is above it: skeletons are grown up long before."""
AGE_BANDS_MONTHS: Final[tuple[tuple[int, int | None], ...]] = ((0, 47), (48, 95), (96, 143), (144, 191), (192, None))
BISECTIONS: Final = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of merit over `n` radiographs with its 95% interval; None where there are no radiographs."""

    n: int
    value: float | None
    low: float | None
    high: float | None


def figure(values: Values, statistic: Callable[[Values], float]) -> Figure:
    """`statistic` over the rows of `values` (N, ...) with its bootstrap interval."""
    if not len(values):
        return Figure(0, None, None, None)
    return Figure(len(values), statistic(values), *bootstrap_interval(values, statistic))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many intervals held the true value: the share with its 95% Clopper-Pearson interval; and the median width."""

    covered: int
    share: Figure
    median_width: float | None

    def record(self) -> dict[str, object]:
        """The coverage of intervals in months as it stands in records and cards."""
        held = self.share
        return {
            "covered": self.covered,
            "coverage": rounded(held.value),
            "coverage_ci95": None if held.value is None else [rounded(held.low), rounded(held.high)],
            "median_interval_months": rounded(self.median_width),
        }


def coverage(hits: Values, widths: Values) -> Coverage:
    """Of intervals with these `widths` (N,), where `hits` (N,) is 1 for those that held the true value, else 0."""
    return Coverage(round(hits.sum()), share(hits), float(np.median(widths)) if len(widths) else None)


def share(hits: Values, *, level: float = 0.95) -> Figure:
    """Share of ones in `hits` (N,) with its exact interval (Clopper CJ, Pearson ES, Biometrika 1934;26(4):404-413)."""
    n, count, tail = len(hits), round(hits.sum()), (1 - level) / 2
    if not n:
        return Figure(0, None, None, None)
    return Figure(n, count / n, _least_chance(count, n, tail), 1 - _least_chance(n - count, n, tail))


def _least_chance(count: int, n: int, tail: float) -> float:
    """The chance of one at which `count` or more of `n` are as likely as `tail`; 0 where `count` is."""
    if not count:
        return 0.0
    more = np.arange(count, n + 1)
    ways = np.array([lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in more])
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        chance = (low + high) / 2
        likely = np.exp(ways + more * np.log(chance) + (n - more) * np.log1p(-chance)).sum()
        low, high = (chance, high) if likely < tail else (low, chance)
    return low


def rounded(value: float | None) -> float | None:
    """A figure as records state it."""
    return None if value is None else round(value, 4)


def mean(values: Values) -> float:
    """Mean of (N,): of errors the bias, of their absolute values the MAE, of hits in {0, 1} the coverage."""
    return float(values.mean())


def root_mean_square(errors: Values) -> float:
    """Root mean square of errors (N,), in their unit."""
    return float(np.sqrt((errors * errors).mean()))


def covered(true: Values, low: Values, high: Values) -> Values:
    """1 where `true` (N,) lies in the closed interval [low, high], else 0."""
    return ((low <= true) & (true <= high)).astype(np.float64)


def in_age_band(true_months: Values, low_months: int, high_months: int | None) -> NDArray[np.bool_]:
    """Which true ages (N,) lie in the band of whole months `low_months` to `high_months` inclusive; None: no end."""
    end = np.inf if high_months is None else high_months + 1
    return (low_months <= true_months) & (true_months < end)


def dice(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape (eq. 2); 1 where both are empty."""
    total = int(predicted.sum()) + int(true.sum())
    return 1.0 if total == 0 else 2 * int((predicted & true).sum()) / total


def area_under_roc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann and Whitney 1947); nan without both."""
    ours, others = np.sort(scores[positive]), scores[~positive]
    if not len(ours) or not len(others):
        return float("nan")
    above = len(ours) - np.searchsorted(ours, others, side="right")
    ties = np.searchsorted(ours, others, side="right") - np.searchsorted(ours, others, side="left")
    return float((above + ties / 2).sum() / (len(ours) * len(others)))


def bootstrap_interval(
    values: Values, statistic: Callable[[Values], float], *, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic` over the rows of `values` (N, ...), without draws that give nan."""
    rng = np.random.default_rng(seed)
    drawn = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(draws)]
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
