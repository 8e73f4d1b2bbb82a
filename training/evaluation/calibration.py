"""Calibrates the 90% interval by split conformal prediction, per sex and band of predicted age.

Lei J et al., "Distribution-Free Predictive Inference for Regression", JASA 2018;113(523):1094-1111. Cells are formed by
*predicted* age, since that is all there is when a radiograph is read.
"""

import math
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain.contracts import SEX_ORDER, Sex
from services.core.domain.release import IntervalCell

LEVEL: Final = 0.90
BAND_EDGES_MONTHS: Final = (-math.inf, 48.0, 96.0, 144.0, 192.0, math.inf)
MINIMUM_IMAGES: Final = 100


def conformal_half_width(errors: NDArray[np.float64], level: float) -> float:
    """Half width that covers a new image with probability `level`: the ceil((n + 1) level)-th smallest error (n,)."""
    rank = math.ceil((len(errors) + 1) * level)
    if rank > len(errors):
        raise ValueError(f"{len(errors)} calibration images are too few for a {level:.0%} interval")
    return float(np.sort(errors)[rank - 1])


def interval_cells(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], sexes: NDArray[np.int64]
) -> tuple[IntervalCell, ...]:
    """Cells for each sex from predicted ages (N, 3) in `SEX_ORDER`, reference ages (N,), all in months, and sexes (N,).

    Sexes are columns of `SEX_ORDER`. The sex `unknown` is calibrated on all images, read without their sex.
    """
    cells: list[IntervalCell] = []
    for column, sex in enumerate(SEX_ORDER):
        chosen = np.ones(len(reference), bool) if sex == "unknown" else sexes == column
        cells += _cells_of(sex, predicted[chosen, column], np.abs(predicted[chosen, column] - reference[chosen]))
    return tuple(cells)


def _cells_of(sex: Sex, ages: NDArray[np.float64], errors: NDArray[np.float64]) -> list[IntervalCell]:
    edges = list(BAND_EDGES_MONTHS)
    while len(edges) > 2:
        counts, _ = np.histogram(ages, bins=edges)
        smallest = int(np.argmin(counts))
        if counts[smallest] >= MINIMUM_IMAGES:
            break
        # Merge the smallest cell with its smaller neighbour by taking away the edge between them.
        left = counts[smallest - 1] if smallest > 0 else math.inf
        right = counts[smallest + 1] if smallest + 1 < len(counts) else math.inf
        del edges[smallest if left <= right else smallest + 1]
    cells = []
    for low, high in pairwise(edges):
        inside = (ages >= low) & (ages < high)
        half_width = conformal_half_width(errors[inside], LEVEL)
        cells.append(IntervalCell(sex, low, high, half_width, int(inside.sum())))
    return cells
