"""Random changes of a hand image that keep its bone age: draws (from a Generator) apart from their application."""

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import standardise

Image = NDArray[np.float32]

UNCOMPRESSED: Final = 100
DARKEST: Final = 0.09
"""The share of its file's grey levels that a hand takes, in the darkest in twenty radiographs."""
OVEREXPOSED: Final = 2.5
"""By how much the grey levels of a hand are multiplied at most before white cuts them off."""


@dataclass(frozen=True, slots=True)
class Lobe:
    """A slip of the outline: an ellipse that `joins` the hand, or is lost from it; lengths as fractions of the side."""

    joins: bool
    centre: tuple[float, float]
    axes: tuple[float, float]
    angle_deg: float
    grey: float


@dataclass(frozen=True, slots=True)
class Change:
    """One drawn change; angles in degrees, shifts and shears as fractions of the side.

    The image came from a file in which it was `overexposed`, blurred (`blur`, a share of the long side), had this
    `resolution`, a share of the side's pixels, took the share `grey_range` of all grey levels, and was compressed to
    `jpeg_quality`. `noise` is that of the image, the file's over `grey_range`.
    """

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
    resolution: float = 1.0
    jpeg_quality: int = UNCOMPRESSED
    grey_range: float = 1.0
    blur: float = 0.0
    overexposed: float = 1.0
    lobe: Lobe | None = None

    @property
    def stored_badly(self) -> bool:
        """Whether the file has changed more than the eye sees."""
        worse = self.noise or self.blur or self.overexposed > 1
        return bool(worse) or self.resolution < 1 or self.jpeg_quality < UNCOMPRESSED


UNCHANGED: Final = Change(
    mirror=False, rotation_deg=0.0, scale=1.0, shear=0.0, shift=(0.0, 0.0), gamma=1.0, gain=1.0, offset=0.0,
    sharpen=0.0, noise=0.0, noise_seed=0,
)  # fmt: skip


def draw_change(rng: np.random.Generator, *, rotation_deg: float = 30.0) -> Change:
    """Draw one change: mirror, rotation, zoom and shear as in the paper (2.4), and what the way to the network does.

    That is contrast, sharpness, a bad file (half of the time), and an outline that slipped.
    """
    change = Change(
        mirror=bool(rng.random() < 0.5),
        rotation_deg=float(np.clip(rng.normal(0, rotation_deg / 2), -rotation_deg, rotation_deg)),
        scale=float(rng.uniform(0.82, 1.12)),
        shear=float(rng.uniform(-0.08, 0.08)),
        shift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        gamma=float(np.exp(rng.uniform(-0.45, 0.45))),
        gain=float(rng.uniform(0.85, 1.12)),
        offset=float(rng.uniform(-0.05, 0.05)),
        sharpen=float(rng.uniform(-0.8, 1.2)) if rng.random() < 0.6 else 0.0,
        noise=0.0,
        noise_seed=int(rng.integers(2**31)),
        lobe=_draw_lobe(rng) if rng.random() < 0.3 else None,
    )
    return draw_storage(change, rng) if rng.random() < 0.5 else change


def draw_storage(change: Change, rng: np.random.Generator, *, overexposed: float = OVEREXPOSED) -> Change:
    """Draw a bad file: dark or overexposed (by up to that factor), noisy, blurred, coarse, compressed, each or not."""
    grey_range = float(np.exp(rng.uniform(np.log(DARKEST), 0)))
    return replace(
        change,
        overexposed=float(np.exp(rng.uniform(0, np.log(overexposed)))) if rng.random() < 0.2 else 1.0,
        grey_range=grey_range,
        noise=float(rng.uniform(0, 0.05)) / grey_range if rng.random() < 0.4 else 0.0,
        blur=float(rng.uniform(0.001, 0.009)) if rng.random() < 0.3 else 0.0,
        resolution=float(rng.uniform(0.3, 1)) if rng.random() < 0.4 else 1.0,
        jpeg_quality=int(rng.integers(8, 80)) if rng.random() < 0.4 else UNCOMPRESSED,
    )


def badly_stored(radiograph: Image, rng: np.random.Generator) -> Image:
    """A radiograph (H, W) in [0, 1], in the grey levels of its file, as a bad file that is drawn shows it.

    It is as dark as it was.
    """
    drawn = draw_storage(replace(UNCHANGED, noise_seed=int(rng.integers(2**31))), rng, overexposed=1.6)
    change = replace(drawn, noise=drawn.noise * drawn.grey_range, grey_range=1.0)
    return np.clip(store(radiograph, change), 0, 1)


def _draw_lobe(rng: np.random.Generator) -> Lobe:
    joins = bool(rng.random() < 0.7)
    largest = 0.14 if joins else 0.05
    return Lobe(
        joins=joins,
        centre=(float(rng.uniform(0, 1)), float(rng.uniform(0, 1))),
        axes=(float(rng.uniform(0.02, largest)), float(rng.uniform(0.02, largest))),
        angle_deg=float(rng.uniform(0, 180)),
        grey=float(rng.uniform(0.05, 0.9)),
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
    return np.where(image > 0, np.clip(result, 0, 1), 0).astype(np.float32)


def store(image: Image, change: Change) -> Image:
    """(H, W) in [0, 1] as it comes back from a bad file: overexposed, blurred, coarse, noisy, compressed, in turn."""
    (height, width), result = image.shape, image
    if change.overexposed > 1:
        result = np.minimum(result * np.float32(change.overexposed), 1)
    if change.blur:
        result = np.asarray(cv2.GaussianBlur(result, (0, 0), change.blur * max(image.shape)), np.float32)
    if change.resolution < 1:
        smaller = [max(8, round(side * change.resolution)) for side in (width, height)]
        result = np.asarray(cv2.resize(result, smaller, interpolation=cv2.INTER_AREA), np.float32)
    if change.noise:
        noise = np.random.default_rng(change.noise_seed).standard_normal(result.shape, dtype=np.float32)
        result = np.clip(result + change.noise * noise, 0, None)
    if change.jpeg_quality < UNCOMPRESSED:
        levels = np.float32(255 * change.grey_range)
        grey = np.round(np.clip(result, 0, 1) * levels).astype(np.uint8)
        _, file = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, change.jpeg_quality])
        result = np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), np.float32) / levels
    if result.shape != image.shape:
        result = np.asarray(cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return result


def apply_lobe(image: Image, lobe: Lobe) -> Image:
    """(S, S) with one slip of its outline: background that was taken for hand is grey, hand that was lost is zero."""
    side = image.shape[0]
    centre = (round(lobe.centre[0] * side), round(lobe.centre[1] * side))
    axes = (max(1, round(lobe.axes[0] * side)), max(1, round(lobe.axes[1] * side)))
    inside = np.zeros(image.shape, np.uint8)
    cv2.ellipse(inside, centre, axes, lobe.angle_deg, 0, 360, color=1, thickness=cv2.FILLED)
    if not lobe.joins:
        return np.where(inside > 0, np.float32(0), image)
    return np.where((inside > 0) & (image == 0), np.float32(lobe.grey), image)


def augment(image: Image, change: Change) -> Image:
    """All of it: the outline's slip first, since it is on the image that everything else happens to."""
    slipped = image if change.lobe is None else apply_lobe(image, change.lobe)
    moved = apply_geometry(slipped, change)
    hand = moved > 0
    stored = store(apply_intensity(moved, change), change)
    if change.stored_badly:
        stored = standardise(stored, inside=hand)
    return np.where(hand, np.clip(stored, 0, 1), np.float32(0)).astype(np.float32)
