"""The gates: when an image that can be read gets no number. A wrong number is worse than none."""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import Image, Mask


class Reason(StrEnum):
    """Why there is no number."""

    NO_HAND = "no hand"
    LOW_CONTRAST = "contrast too low"
    NOT_LIKE_TRAINING = "not like the training images"
    NOT_UPRIGHT = "hand not upright"
    INTERVAL_TOO_WIDE = "interval too wide"


@dataclass(frozen=True, slots=True)
class Abstention:
    """A refusal to give a number; the explanation states the value and the limit it passed."""

    reason: Reason
    explanation: str


@dataclass(frozen=True, slots=True)
class TypicalityLimit:
    """One output of the regressor's `typicality`, higher being more typical, with the least that passes."""

    name: str
    minimum: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class GateThresholds:
    """Limits that a release was fitted with, on real radiographs, as they are or disturbed."""

    minimum_contrast: float
    minimum_foreground_fraction: float
    maximum_foreground_fraction: float
    minimum_mask_certainty: float
    typicality: tuple[TypicalityLimit, ...]
    maximum_interval_width_months: float
    maximum_structure_change: float


def contrast(frame: Image) -> float:
    """Spread of the grey levels of (H, W) in [0, 1]: 99.5th less 2nd percentile, over the 99.5th."""
    low, high = (float(v) for v in np.percentile(frame, (2.0, 99.5)))
    return (high - low) / high if high > 0 else 0.0


def mask_certainty(probability: Image, mask: Mask) -> float:
    """Mean of |2p - 1| over the mask (H, W): 1 where the segmenter has no doubt, 0 for an empty mask."""
    return float(np.abs(2 * probability[mask] - 1).mean()) if mask.any() else 0.0


def check_contrast(frame: Image, limits: GateThresholds) -> Abstention | None:
    """Refuse an image without grey levels to see bone by."""
    value = contrast(frame)
    if value >= limits.minimum_contrast:
        return None
    return Abstention(Reason.LOW_CONTRAST, f"contrast {value:.3f} is below {limits.minimum_contrast:.3f}")


def check_mask(probability: Image, mask: Mask, limits: GateThresholds) -> Abstention | None:
    """Refuse a mask that is not that of a hand: its share of the frame, and the segmenter's certainty of it."""
    fraction, certainty = float(mask.mean()), mask_certainty(probability, mask)
    if fraction < limits.minimum_foreground_fraction:
        text = f"the mask covers {fraction:.4f} of the image, less than {limits.minimum_foreground_fraction:.4f}"
    elif fraction > limits.maximum_foreground_fraction:
        text = f"the mask covers {fraction:.4f} of the image, more than {limits.maximum_foreground_fraction:.4f}"
    elif certainty < limits.minimum_mask_certainty:
        text = f"the mask's certainty {certainty:.3f} is below {limits.minimum_mask_certainty:.3f}"
    else:
        return None
    return Abstention(Reason.NO_HAND, text)


def check_typicality(scores: NDArray[np.float32], limits: GateThresholds) -> Abstention | None:
    """Refuse features (K,) unlike those of the training radiographs."""
    for score, limit in zip(scores, limits.typicality, strict=True):
        if not score >= limit.minimum:
            return Abstention(limit.reason, f"{limit.name} {score:.3f} is below {limit.minimum:.3f}")
    return None


def check_interval(low_months: float, high_months: float, limits: GateThresholds) -> Abstention | None:
    """Refuse a number whose interval says little."""
    width = high_months - low_months
    if width <= limits.maximum_interval_width_months:
        return None
    limit = limits.maximum_interval_width_months
    return Abstention(Reason.INTERVAL_TOO_WIDE, f"the 90% interval is {width:.0f} months wide, above {limit:.0f}")


def structure_change(before: Image, after: Image) -> float:
    """Worst local change of structure between two hands (S, S): 1 - the least windowed structure term of SSIM.

    The structure term is the correlation of both images in a window (Wang Z et al., IEEE TIP 2004, eq. 10): a stretch
    of contrast leaves it at 1, a bone erased or invented in a window lowers it there.
    """

    def blur(image: Image) -> Image:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 2.0), dtype=np.float32)

    mean_a, mean_b = blur(before), blur(after)
    variance_a = np.maximum(blur(before * before) - mean_a**2, 0)
    variance_b = np.maximum(blur(after * after) - mean_b**2, 0)
    covariance = blur(before * after) - mean_a * mean_b
    floor = np.float32(2e-4)
    structure = (covariance + floor) / (np.sqrt(variance_a * variance_b) + floor)
    return float(np.clip(1 - structure.min(), 0, 1))
