"""Geometry and intensity of a radiograph on its way to a network: the one implementation, for training and serving.

Every radiograph is first brought to the *frame*: its long side has `FRAME_PX` pixels, whatever the file had. The same
hand then reaches the networks with the same sharpness from a 299 px JPEG as from a 2000 px DICOM file.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidRadiographError

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

FRAME_PX: Final = 299
SEGMENT_PX: Final = 256
HAND_PX: Final = 224
CROP_MARGIN: Final = 1 / 30
PERCENTILES: Final = (2.0, 99.5)
MINIMUM_RANGE: Final = 1e-4
SEGMENT_GAMMA: Final = 0.6
"""Lifts dark fingers beside bright borders: without it one hand in fifteen lost part of an ossification region."""


@dataclass(frozen=True, slots=True)
class Square:
    """A square window on an image in whole pixels; it may reach beyond the image, where it reads zero."""

    x: int
    y: int
    side: int

    def __post_init__(self) -> None:
        if self.side < 1:
            raise InvalidRadiographError(f"a crop needs a side of at least 1 px, not {self.side}", field="crop.side")


def resize(image: NDArray[np.generic], *, height: int, width: int) -> NDArray[np.float32]:
    """Resize (H, W) to (height, width) as float32: area average where it shrinks, bilinear where it grows."""
    source = np.ascontiguousarray(image, dtype=np.float32)
    shrinks = height * width < source.shape[0] * source.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(source, (width, height), interpolation=method), dtype=np.float32)


def frame_shape(height: int, width: int) -> tuple[int, int]:
    """Height and width of the frame of a radiograph that was acquired with `height` x `width` pixels."""
    scale = FRAME_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_frame(pixels: Image, *, true_shape: tuple[int, int] | None = None) -> Image:
    """Bring (H, W) pixels to the frame.

    `true_shape` is the height and width at acquisition, where the stored image was squashed since; its aspect rules.
    """
    height, width = frame_shape(*(true_shape or (pixels.shape[0], pixels.shape[1])))
    return resize(pixels, height=height, width=width)


def whole(image: NDArray[np.generic]) -> Square:
    """The smallest centred square that holds all of an (H, W) image."""
    height, width = image.shape[:2]
    side = max(height, width)
    return Square(x=-((side - width) // 2), y=-((side - height) // 2), side=side)


def crop_square(image: NDArray[np.generic], square: Square, *, size_px: int) -> Image:
    """Cut `square` out of (H, W), zero outside the image, and resize it to (size_px, size_px) float32."""
    height, width = image.shape[:2]
    patch = np.zeros((square.side, square.side), np.float32)
    top, left = max(square.y, 0), max(square.x, 0)
    bottom, right = min(square.y + square.side, height), min(square.x + square.side, width)
    if top < bottom and left < right:
        patch[top - square.y : bottom - square.y, left - square.x : right - square.x] = image[top:bottom, left:right]
    return resize(patch, height=size_px, width=size_px)


def uncrop_square(patch: NDArray[np.generic], square: Square, *, height: int, width: int) -> Image:
    """The inverse of `crop_square`: lay (S, S) back where it came from in (height, width); zero elsewhere."""
    restored = resize(patch, height=square.side, width=square.side)
    image = np.zeros((height, width), np.float32)
    top, left = max(square.y, 0), max(square.x, 0)
    bottom, right = min(square.y + square.side, height), min(square.x + square.side, width)
    if top < bottom and left < right:
        image[top:bottom, left:right] = restored[top - square.y : bottom - square.y, left - square.x : right - square.x]
    return image


def standardise(image: Image, *, inside: Mask | None = None) -> Image:
    """Stretch the grey levels between `PERCENTILES` (of the pixels `inside`, or of all) to [0, 1] and clip the rest."""
    values = image if inside is None or not inside.any() else image[inside]
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if high - low < MINIMUM_RANGE:
        return np.zeros_like(image)
    return np.asarray(np.clip((image - low) / (high - low), 0, 1), dtype=np.float32)


def segmenter_input(frame: Image) -> Image:
    """The (SEGMENT_PX, SEGMENT_PX) input of the segmenter: the standardised, lifted frame, padded to a square."""
    lifted = np.power(standardise(frame), np.float32(SEGMENT_GAMMA))
    return crop_square(lifted, whole(frame), size_px=SEGMENT_PX)


def hand_square(mask: Mask) -> Square:
    """The square around the hand: the mask's bounding box, a margin of `CROP_MARGIN` of its long side, centred."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise InvalidRadiographError("the mask is empty, so there is no hand to crop to", field="mask")
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    extent = max(bottom - top, right - left)
    side = extent + 2 * max(1, round(extent * CROP_MARGIN))
    return Square(x=(left + right - side) // 2, y=(top + bottom - side) // 2, side=side)


def hand_image(frame: Image, mask: Mask) -> tuple[Image, Square]:
    """The segmented hand (paper 2.2): grey levels standardised inside the mask, zero outside it, cropped and padded.

    Returns (HAND_PX, HAND_PX) in [0, 1] and the square of the frame that it shows.
    """
    square = hand_square(mask)
    hand = np.where(mask, standardise(frame, inside=mask), np.float32(0))
    return crop_square(hand, square, size_px=HAND_PX), square
