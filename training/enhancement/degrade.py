"""Realistic degradations of a good hand image: what the enhancer learns to undo (paper 2.3)."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One drawn degradation; sizes in pixels of the hand image, amounts in its grey scale [0, 1]."""

    gamma: float
    contrast: float
    brightness: float
    scatter: float
    scatter_px: float
    blur_px: float
    noise: float
    noise_seed: int


def draw_degradation(rng: np.random.Generator) -> Degradation:
    """Draw one degradation; one in eight is mild, so that a good image is left as it is."""
    strength = 0.15 if rng.random() < 0.125 else 1.0
    return Degradation(
        gamma=float(np.exp(strength * rng.uniform(-0.7, 0.7))),
        contrast=float(1 - strength * rng.uniform(0, 0.55)),
        brightness=float(strength * rng.uniform(0, 0.3)),
        scatter=float(strength * rng.uniform(0, 0.5)) if rng.random() < 0.6 else 0.0,
        scatter_px=float(rng.uniform(8, 40)),
        blur_px=float(strength * rng.uniform(0.2, 0.9)) if rng.random() < 0.4 else 0.0,
        noise=float(strength * rng.uniform(0, 0.05)) if rng.random() < 0.6 else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )


def degrade(hand: Image, degradation: Degradation) -> Image:
    """Apply to a hand (S, S) in [0, 1]; what is zero, outside the mask, stays zero."""
    inside = hand > 0
    result = np.power(hand, np.float32(degradation.gamma))
    if degradation.scatter:
        veil = cv2.GaussianBlur(result, (0, 0), degradation.scatter_px)
        result = (1 - degradation.scatter) * result + degradation.scatter * veil
    result = result * degradation.contrast + min(degradation.brightness, 1 - degradation.contrast)
    if degradation.blur_px:
        result = cv2.GaussianBlur(result, (0, 0), degradation.blur_px)
    if degradation.noise:
        noise = np.random.default_rng(degradation.noise_seed).standard_normal(hand.shape, dtype=np.float32)
        result = result + degradation.noise * noise
    return np.where(inside, np.clip(result, 1 / 255, 1), 0).astype(np.float32)


def quality(hand: Image) -> float:
    """How good a hand (S, S) is as a gold standard: fine detail against its noise floor, without units.

    Energy between 1 and 3 px (edges and trabeculae) over the energy below 1 px (noise), inside the hand.
    """
    inside = cv2.erode((hand > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if inside.sum() < 1000:
        return 0.0
    fine = cv2.GaussianBlur(hand, (0, 0), 1.0)
    detail = fine - cv2.GaussianBlur(hand, (0, 0), 3.0)
    noise = hand - fine
    return float(detail[inside].std() * hand[inside].std() / (noise[inside].std() + 0.01))
