"""From a network's output to what is reported: Otsu's mask, the hand's component, maps laid back on the image."""

from typing import Final

import cv2
import numpy as np

from services.core.domain.preprocess import Image, Mask

OTSU_BINS: Final = 256


def otsu_threshold(probability: Image) -> float:
    """Otsu's threshold of a probability map (the paper's g, eq. 2), in [0, 1]; 0.5 where the map is constant.

    Otsu N, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans SMC 1979;9(1):62-66.
    """
    counts, edges = np.histogram(probability, bins=OTSU_BINS, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    if not np.isfinite(between).any():
        return 0.5
    # Two far classes leave a plateau of equally good thresholds: its middle is the stable choice.
    best = np.flatnonzero(between >= np.nanmax(between[np.isfinite(between)]) * (1 - 1e-9))
    return float(edges[1:][best].mean())


def largest_component(mask: Mask) -> Mask:
    """The largest 8-connected component of a mask (H, W); an empty mask stays empty."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count == 1:  # the background alone
        return np.zeros_like(mask, dtype=bool)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])), dtype=bool)


def fill_holes(mask: Mask) -> Mask:
    """A mask (H, W) with its holes filled."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(canvas, contours, -1, color=1, thickness=cv2.FILLED)
    return canvas.astype(bool)


def hand_mask(probability: Image) -> Mask:
    """The hand in a probability map (H, W): Otsu's threshold, the largest component, holes filled."""
    return fill_holes(largest_component(probability >= otsu_threshold(probability)))
