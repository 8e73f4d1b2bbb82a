"""From attenuation to film: scatter, response, grain, the collimated field and the lead letter."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.phantom.parameters import PhantomParameters

Image = NDArray[np.float32]

STROKES: Final = {
    "L": ((0, 0), (0, 1), (1, 1)),
    "R": ((0, 1), (0, 0), (0.75, 0), (1, 0.12), (1, 0.38), (0.75, 0.5), (0, 0.5), (0.45, 0.5), (1, 1)),
    "T": ((0, 0), (1, 0), (0.5, 0), (0.5, 1)),
}
"""Letters as strokes in a unit square: fonts differ between versions of OpenCV."""


def expose(attenuation: Image, p: PhantomParameters, *, px_per_mm: float, rng: np.random.Generator) -> Image:
    """The film (H, W) in [0, 1], 1 = dense: unsharp by focus and scatter, grainy, edge-enhanced as by a reader."""
    sharp = cv2.GaussianBlur(attenuation, (0, 0), max(p.blur_mm * px_per_mm, 0.3))
    scatter = cv2.GaussianBlur(attenuation, (0, 0), 9 * px_per_mm)
    image = 0.9 * sharp + 0.1 * scatter
    grain = np.asarray(rng.standard_normal(image.shape), np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.7), np.float32)
    image = image + p.noise * grain / float(grain.std()) * (0.4 + 0.6 * np.sqrt(np.maximum(image, 0)))
    local = cv2.GaussianBlur(image, (0, 0), 1.5 * px_per_mm)
    image = image + 0.5 * p.sharpen * (image - local)
    return _respond(image, p)


def _respond(image: Image, p: PhantomParameters) -> Image:
    """A film's curve: the toe lifts air to `air`, the shoulder compresses dense bone."""
    value = np.maximum(image, 0) * p.contrast
    curve = (1 - np.exp(-value)) ** p.gamma
    return np.asarray(np.clip(p.air + (1 - p.air) * curve, 0, 1), np.float32)


def surround(attenuation: Image, p: PhantomParameters, rng: np.random.Generator) -> tuple[Image, Image]:
    """What lies around the hand: attenuation with a lead letter added, and the weight (H, W) of the exposed field."""
    height, width = attenuation.shape
    margin = p.frame_margin * height
    field = np.zeros(attenuation.shape, np.float32)
    left, top = (margin * rng.uniform(0.3, 1.2, 2)).astype(int)
    right, bottom = width - int(margin * rng.uniform(0.3, 1.2)), height - int(margin * rng.uniform(0.0, 0.5))
    field[top:bottom, left:right] = 1
    soft = cv2.GaussianBlur(field, (0, 0), max(0.004 * height, 0.5))
    return attenuation + _letter(attenuation, p, rng), np.asarray(soft, np.float32)


def _letter(attenuation: Image, p: PhantomParameters, rng: np.random.Generator) -> Image:
    """A lead letter on its plastic plate, where the picture is emptiest."""
    height, width = attenuation.shape
    size = round(0.10 * height)
    plate = _plate(p.letter, size)
    tries = rng.uniform((0.08 * width, 0.09 * height), (0.92 * width, 0.91 * height), (60, 2))
    x, y = min(tries, key=lambda at: _densest(attenuation, at, half=round(0.62 * size)))
    turn = cv2.getRotationMatrix2D((plate.shape[1] / 2, size / 2), float(rng.normal(0, 7)), 1.0)
    turn[:, 2] += np.array([x - plate.shape[1] / 2, y - size / 2])
    return np.asarray(cv2.warpAffine(plate, turn, (width, height), flags=cv2.INTER_LINEAR), np.float32)


def _plate(text: str, size: int) -> Image:
    """Lead strokes on plastic: attenuation of (size, 0.75 size)."""
    width = round(0.75 * size)
    strokes = np.zeros((size, width), np.uint8)
    cell = np.array([0.8 * width / len(text), 0.62 * size])
    for place, letter in enumerate(text):
        corner = np.array([0.1 * width + (place + 0.18) * cell[0], 0.2 * size])
        points = corner + np.asarray(STROKES[letter]) * (0.64 * cell[0], cell[1])
        cv2.polylines(
            strokes,
            [np.rint(points * 16).astype(np.int32)],
            isClosed=False,
            color=255,
            thickness=max(1, round(size / 10)),
            lineType=cv2.LINE_AA,
            shift=4,
        )
    return np.asarray(0.05 + strokes.astype(np.float32) / 255 * 2.5, np.float32)


def _densest(attenuation: Image, at: NDArray[np.float64], *, half: int) -> float:
    x, y = int(at[0]), int(at[1])
    return float(attenuation[max(0, y - half) : y + half, max(0, x - half) : x + half].max())
