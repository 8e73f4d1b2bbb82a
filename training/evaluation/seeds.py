"""Means over seeds and images, with intervals that hold for other seeds and other images."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

RESAMPLES: Final = 2000


def interval(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of values (S, N) of S seeds and N images, and its percentile bootstrap interval; both are resampled.

    An image that one network reads badly another reads badly too, and a seed that came out well did so on all images:
    S * N values are not as many independent ones. Few seeds are few draws: of the variance that they contribute, the
    interval holds (S - 1) / S.
    """
    return float(values.mean()), *bounds(resampled(values[:, None])[:, 0], level=level)


def strict_interval(*groups: NDArray[np.float64], level: float) -> tuple[float, float]:
    """An interval of the mean of the groups' means, for verdicts: a few seeds are too few to draw from again.

    Each group is values (S, N), S at least 2. Student's interval, of the variances of the seeds' means and of the
    images' means, with the degrees of freedom that the seeds leave: of one group S - 1, of several as many as Welch
    and Satterthwaite give them (Biometrics Bulletin 1946;2(6):110-114). The images, though many, add none: where three
    seeds happen to agree, they would tell apart what is alike. Runs of different groups vary by themselves; their
    images may be the same, so what varies with these is taken to vary alike in all.
    """
    of_seeds = np.array([group.mean(axis=1).var(ddof=1) / len(group) / len(groups) ** 2 for group in groups])
    of_images = np.mean([(group.mean(axis=0).var(ddof=1) / group.shape[1]) ** 0.5 for group in groups]) ** 2
    middle, free = float(np.mean([group.mean() for group in groups])), np.array([len(group) - 1 for group in groups])
    freedom = of_seeds.sum() ** 2 / (of_seeds**2 / free).sum() if of_seeds.any() else free.min()
    reach = float(student.ppf((1 + level) / 2, freedom)) * float(of_seeds.sum() + of_images) ** 0.5
    return middle - reach, middle + reach


def resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (B, R) of values (S, R, N) of S seeds and N images in each of B bootstrap samples of seeds and images."""
    rng = np.random.default_rng(0)
    seeds, _, images = values.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    of_images = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    drawn: NDArray[np.float64] = np.einsum("bs,srn,bn->br", of_seeds, values, of_images, optimize=True)
    return drawn


def bounds(drawn: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of what was drawn (B,); what could not be computed, nan, is left out."""
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
