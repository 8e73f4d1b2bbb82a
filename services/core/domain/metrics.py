"""Figures of merit, each with a bootstrap interval where it is an average over radiographs."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def dice(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape (eq. 2); 1 where both are empty."""
    total = int(predicted.sum()) + int(true.sum())
    return 1.0 if total == 0 else 2 * int((predicted & true).sum()) / total


def bootstrap_interval(
    values: Values, statistic: Callable[[Values], float], *, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic` over the rows of `values` (N, ...)."""
    rng = np.random.default_rng(seed)
    drawn = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(draws)]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
