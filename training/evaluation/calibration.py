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
from services.core.domain.reading import softmax
from services.core.domain.release import IntervalCell

LEVEL: Final = 0.90
BAND_EDGES_MONTHS: Final = (-math.inf, 48.0, 96.0, 144.0, 192.0, math.inf)
MINIMUM_IMAGES: Final = 100
UNKNOWN: Final = SEX_ORDER.index("unknown")
SHRINKAGE: Final = 10
TEMPERATURES: Final = np.geomspace(1 / 20, 20, 601)


def conformal_half_width(errors: NDArray[np.float64], level: float) -> float:
    """Half width that covers a new image with probability `level`: the ceil((n + 1) level)-th smallest error (n,).

    Raises ValueError where there are too few for that.
    """
    rank = math.ceil((len(errors) + 1) * level)
    if rank > len(errors):
        raise ValueError(f"{len(errors)} calibration images are too few for a {level:.0%} interval")
    return float(np.sort(errors)[rank - 1])


def band_scales(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], sexes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Typical absolute errors in months by sex and band of predicted age (3, bands), of arrays as `interval_cells` has.

    Means, drawn towards that of all bands as by SHRINKAGE images, so that a band of few images is not taken at its
    word; those of both known sexes are one. Of images that calibrate nothing, such as the validation part's.
    """
    own = _scales(predicted[np.arange(len(reference)), sexes], reference)
    unknown = _scales(predicted[:, UNKNOWN], reference)
    return np.stack([unknown if column == UNKNOWN else own for column in range(len(SEX_ORDER))])


def _scales(ages: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    errors, bands = np.abs(ages - reference), _bands(ages)
    count = len(BAND_EDGES_MONTHS) - 1
    sums, counts = np.bincount(bands, errors, minlength=count), np.bincount(bands, minlength=count)
    return np.asarray((sums + SHRINKAGE * errors.mean()) / (counts + SHRINKAGE), np.float64)


def _bands(ages: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.digitize(ages, BAND_EDGES_MONTHS) - 1


def interval_cells(
    predicted: NDArray[np.float64],
    reference: NDArray[np.float64],
    sexes: NDArray[np.int64],
    scales: NDArray[np.float64],
) -> tuple[IntervalCell, ...]:
    """Cells for each sex from predicted ages (N, 3) in `SEX_ORDER`, reference ages (N,), all in months, and sexes (N,).

    Sexes are columns of `SEX_ORDER`. The sex `unknown` is calibrated on all images, read without their sex; a sex with
    less than MINIMUM_IMAGES of its own on all images as well, read as of that sex. Errors count in units of their
    band's `scales`, so that where bands are calibrated together for want of images the one with larger errors still
    gets the wider interval (Papadopoulos H et al., "Inductive Confidence Machines for Regression", ECML 2002).
    """
    cells: list[IntervalCell] = []
    for column, sex in enumerate(SEX_ORDER):
        own = sexes == column
        chosen = np.ones(len(reference), bool) if sex == "unknown" or own.sum() < MINIMUM_IMAGES else own
        errors = np.abs(predicted[chosen, column] - reference[chosen])
        cells += _cells_of(sex, predicted[chosen, column], errors, scales[column])
    return tuple(cells)


def _cells_of(
    sex: Sex, ages: NDArray[np.float64], errors: NDArray[np.float64], scales: NDArray[np.float64]
) -> list[IntervalCell]:
    relative = errors / scales[_bands(ages)]
    groups = list(pairwise(_merged_edges(ages)))
    cells = []
    for (low, high), scale in zip(pairwise(BAND_EDGES_MONTHS), scales, strict=True):
        first, last = next((a, b) for a, b in groups if a <= low and high <= b)
        inside = (ages >= first) & (ages < last)
        half_width = conformal_half_width(relative[inside], LEVEL) * float(scale)
        cells.append(IntervalCell(sex, low, high, half_width, int(inside.sum())))
    return cells


def _merged_edges(ages: NDArray[np.float64]) -> list[float]:
    """Edges of the bands of predicted age, without those between cells of less than MINIMUM_IMAGES images."""
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
    return edges


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """The temperature, from 1/20 to 20, under which labels (N,) are likeliest (Guo C et al., ICML 2017)."""
    rows, truth = np.arange(len(labels)), labels.astype(np.intp)

    def surprise(temperature: float) -> float:
        likelihood = softmax(logits, temperature)[rows, truth]
        return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())

    return float(min(TEMPERATURES, key=surprise))


def set_probability(of_the_true: NDArray[np.float64]) -> float:
    """The least probability of a class in the set that holds the true one of a new image with probability LEVEL.

    From the probabilities (n,) that calibration images gave their true class (Sadinle M et al., JASA 2019).
    """
    return 1 - conformal_half_width(1 - of_the_true, LEVEL)
