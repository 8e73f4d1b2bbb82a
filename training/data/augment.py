"""Random changes of a hand image that keep its bone age: draws (from a Generator) apart from their application."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Change:
    """One drawn change; angles in degrees, shifts and shears as fractions of the side."""

    mirror: bool
    rotation_deg: float
    scale: float
    shear: float
    shift: tuple[float, float]
    gamma: float
    gain: float
    offset: float
    sharpen: float
    noise: float
    noise_seed: int


def draw_change(rng: np.random.Generator, *, rotation_deg: float = 30.0) -> Change:
    """Draw one change: mirror, rotation, zoom and shear as in the paper (2.4), and contrast, sharpness and noise."""
    return Change(
        mirror=bool(rng.random() < 0.5),
        rotation_deg=float(np.clip(rng.normal(0, rotation_deg / 2), -rotation_deg, rotation_deg)),
        scale=float(rng.uniform(0.87, 1.12)),
        shear=float(rng.uniform(-0.08, 0.08)),
        shift=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05))),
        gamma=float(np.exp(rng.uniform(-0.45, 0.45))),
        gain=float(rng.uniform(0.85, 1.12)),
        offset=float(rng.uniform(-0.05, 0.05)),
        sharpen=float(rng.uniform(-0.8, 0.8)) if rng.random() < 0.6 else 0.0,
        noise=float(rng.uniform(0, 0.025)) if rng.random() < 0.4 else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )


def apply_geometry(image: Image, change: Change, *, nearest: bool = False) -> Image:
    """The geometric part on a square (S, S); zero comes in from outside. Masks are moved with `nearest`."""
    side = image.shape[0]
    centre = (side - 1) / 2
    matrix = np.vstack([cv2.getRotationMatrix2D((centre, centre), change.rotation_deg, change.scale), [0, 0, 1]])
    sheared = np.array([[1, change.shear, -change.shear * centre], [0, 1, 0], [0, 0, 1]])
    mirrored = np.array([[-1 if change.mirror else 1, 0, 2 * centre if change.mirror else 0], [0, 1, 0], [0, 0, 1]])
    matrix = (matrix @ sheared @ mirrored)[:2]
    matrix[:, 2] += np.array(change.shift) * side
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=method), np.float32)


def apply_intensity(image: Image, change: Change) -> Image:
    """The intensity part on (S, S) in [0, 1]; what is exactly zero (outside the mask) stays zero."""
    result = np.power(image, np.float32(change.gamma)) * change.gain + change.offset
    if change.sharpen:
        result = result + change.sharpen * (result - cv2.GaussianBlur(result, (0, 0), 1.0))
    if change.noise:
        noise = np.random.default_rng(change.noise_seed).standard_normal(image.shape, dtype=np.float32)
        result = result + change.noise * noise
    return np.where(image > 0, np.clip(result, 0, 1), 0).astype(np.float32)


def augment(image: Image, change: Change) -> Image:
    """Both parts."""
    return apply_intensity(apply_geometry(image, change), change)
