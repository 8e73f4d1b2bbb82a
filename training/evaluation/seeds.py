"""Means over seeds and images, with intervals that hold for other seeds and other images."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 2000


def interval(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of values (S, N) of S seeds and N images, and its percentile bootstrap interval; both are resampled.

    An image that one network reads badly another reads badly too, and a seed that came out well did so on all images:
    S * N values are not as many independent ones. Few seeds are few draws: of the variance that they contribute, the
    interval holds (S - 1) / S.
    """
    seeds, images = values.shape
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    of_images = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    means = ((of_seeds @ values) * of_images).sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(values.mean()), float(low), float(high)
