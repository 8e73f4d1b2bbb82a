"""Images that are no upright hand, drawn from radiographs and from nothing: what the gates must refuse."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import FRAME_PX

Image = NDArray[np.float32]

TURNS: Final = ("90", "180", "270", "upside down")


def shuffled(frame: Image, rng: np.random.Generator) -> Image:
    """A frame (H, W) cut into a grid of 2 to 9 patches a side that are laid down in another order."""
    grid = int(rng.integers(2, 10))
    height, width = frame.shape[0] // grid, frame.shape[1] // grid
    patches = [
        frame[r * height : (r + 1) * height, c * width : (c + 1) * width] for r in range(grid) for c in range(grid)
    ]
    order = rng.permutation(grid * grid)
    while np.array_equal(order, np.arange(grid * grid)):
        order = rng.permutation(grid * grid)
    rows = [np.hstack([patches[order[r * grid + c]] for c in range(grid)]) for r in range(grid)]
    return np.vstack(rows)


def turned(frame: Image, rng: np.random.Generator, *, turn: str | None = None) -> Image:
    """A frame turned by a quarter, a half, three quarters (each give or take 30 degrees), or flipped upside down."""
    name = turn or str(rng.choice(TURNS))
    image = np.flipud(frame) if name == "upside down" else np.rot90(frame, {"90": 1, "180": 2, "270": 3}[name])
    return tilted(np.ascontiguousarray(image), float(rng.uniform(-30, 30)))


def tilted(frame: Image, angle_deg: float, *, whole: bool = False) -> Image:
    """A frame turned about its centre, zero coming in; `whole` on a canvas that holds all of it, air coming in."""
    height, width = frame.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    if not whole:
        return np.asarray(cv2.warpAffine(frame, matrix, (width, height)), np.float32)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (round(height * sine + width * cosine), round(height * cosine + width * sine))
    matrix[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    return np.asarray(cv2.warpAffine(frame, matrix, size, borderValue=float(frame.min())), np.float32)


def enlarged(frame: Image, rng: np.random.Generator) -> Image:
    """A small part of a frame, where no whole hand can be: a third of its sides or less."""
    height, width = (int(side * rng.uniform(0.15, 0.35)) for side in frame.shape)
    top, left = int(rng.integers(frame.shape[0] - height)), int(rng.integers(frame.shape[1] - width))
    part = frame[top : top + height, left : left + width]
    scale = FRAME_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(part, size), np.float32)


def noise(rng: np.random.Generator) -> Image:
    """Noise of a drawn correlation length, sometimes of a few levels only."""
    shape = (FRAME_PX, int(rng.integers(180, FRAME_PX + 1)))
    field: Image = rng.standard_normal(shape).astype(np.float32)
    if rng.random() < 0.7:
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), float(np.exp(rng.uniform(-0.5, 3.2)))), np.float32)
    field = (field - field.min()) / (np.ptp(field) + 1e-6)
    return np.asarray(field > np.quantile(field, rng.uniform(0.2, 0.8)), np.float32) if rng.random() < 0.3 else field


def text_page(rng: np.random.Generator) -> Image:
    """A page of drawn letters, dark on light or light on dark."""
    page = np.zeros((FRAME_PX, int(rng.integers(200, FRAME_PX + 1))), np.uint8)
    size = float(rng.uniform(0.25, 1.2))
    for y in range(12, FRAME_PX, int(14 + 22 * size)):
        letters = "".join(chr(int(code)) for code in rng.integers(33, 126, 60))
        cv2.putText(page, letters, (int(rng.integers(0, 20)), y), cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1)
    grey = page.astype(np.float32) / np.float32(255)
    return 1 - grey if rng.random() < 0.6 else grey


def shapes(rng: np.random.Generator) -> Image:
    """Bright bars, ellipses and tubes on a background, as limbs and things lie on a detector."""
    canvas = np.full((FRAME_PX, int(rng.integers(180, FRAME_PX + 1))), int(rng.integers(0, 90)), np.uint8)
    for _ in range(int(rng.integers(1, 7))):
        centre = (int(rng.integers(canvas.shape[1])), int(rng.integers(canvas.shape[0])))
        axes = (int(rng.integers(6, 70)), int(rng.integers(20, 260)))
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(60, 256)), -1)
        if rng.random() < 0.5:
            inner = (max(1, axes[0] // 2), axes[1])
            cv2.ellipse(canvas, centre, inner, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(60, 256)), -1)
    blur_px = float(rng.uniform(0.6, 4))
    grey = np.asarray(cv2.GaussianBlur(canvas.astype(np.float32) / np.float32(255), (0, 0), blur_px), np.float32)
    grain = rng.standard_normal(grey.shape).astype(np.float32) * float(rng.uniform(0, 0.06))
    return np.clip(grey + grain, 0, 1)


def not_a_hand(frame: Image, rng: np.random.Generator) -> Image:
    """One image that is not a hand, half of the time made from a radiograph."""
    kind = int(rng.integers(8))
    if kind < 3:
        return shuffled(frame, rng)
    if kind == 3:
        return enlarged(frame, rng)
    drawn: Image = (noise, text_page, shapes, shapes)[kind - 4](rng)
    return drawn
