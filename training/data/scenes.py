"""Changes of a whole radiograph around its hand: pose, exposure, collimation, lead letters, inversion left in."""

from hashlib import sha256
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import standardise
from training.data.augment import Change, draw_change, draw_storage

Image = NDArray[np.float32]
SHOWN: Final = 64


def draw_scene_change(rng: np.random.Generator) -> Change:
    """A wider change than the regressor's: any turn up to 45 degrees, one time in four any turn at all."""
    turn = 180.0 if rng.random() < 0.25 else 45.0
    change = Change(
        mirror=bool(rng.random() < 0.5),
        rotation_deg=float(rng.uniform(-turn, turn)),
        scale=float(np.exp(rng.uniform(-0.35, 0.25))),
        shear=float(rng.uniform(-0.12, 0.12)),
        shift=(float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.12, 0.12))),
        gamma=float(np.exp(rng.uniform(-0.8, 0.8))),
        gain=float(rng.uniform(0.6, 1.15)),
        offset=float(rng.uniform(-0.05, 0.15)),
        sharpen=float(rng.uniform(-0.9, 1.2)),
        noise=0.0,
        noise_seed=int(rng.integers(2**31)),
    )
    return draw_storage(change, rng) if rng.random() < 0.6 else change


def drawing() -> str:
    """SHA-256 of some changes that are drawn of hands and of scenes: what learnt from others cannot be compared."""
    drawn = [draw(np.random.default_rng(seed)) for draw in (draw_change, draw_scene_change) for seed in range(SHOWN)]
    return sha256(repr(drawn).encode()).hexdigest()


def draw_surroundings(image: Image, hand: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    """Change what surrounds the `hand` in (S, S): air's grey, tilted exposure, borders, letters; then standardise."""
    side = image.shape[0]
    result = image.copy()
    soft: Image = np.asarray(cv2.GaussianBlur(hand.astype(np.float32), (0, 0), 1.0), np.float32)
    if rng.random() < 0.4:
        result += (1 - soft) * float(rng.uniform(0, 0.5))
    if rng.random() < 0.4:
        ramp = np.linspace(-1, 1, side, dtype=np.float32)
        result += float(rng.uniform(-0.2, 0.2)) * ramp[None] + float(rng.uniform(-0.2, 0.2)) * ramp[:, None]
    if rng.random() < 0.5:
        _border(result, hand, soft, rng)
    for _ in range(int(rng.integers(0, 3))):
        _bar(result, soft, rng)
    for _ in range(int(rng.integers(0, 3))):
        _letters(result, soft, rng)
    if rng.random() < 0.3:
        _collimate(result, hand, rng)
    if rng.random() < 0.15:
        result = result.max() - result
    return standardise(result)


def _bar(image: Image, soft: Image, rng: np.random.Generator) -> None:
    """A bright straight edge beside the hand, as an unexposed border of the film is."""
    side = image.shape[0]
    canvas = np.zeros_like(image)
    start = rng.integers(0, side, 2)
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.05)
    reach = np.array([np.cos(angle), np.sin(angle)]) * side * 2
    ends = [tuple(int(v) for v in start + s * reach) for s in (-1, 1)]
    cv2.line(canvas, ends[0], ends[1], 1.0, int(rng.integers(1, 14)))
    image += canvas * (1 - soft) * float(rng.uniform(0.2, 1.0))


def _border(image: Image, hand: NDArray[np.bool_], soft: Image, rng: np.random.Generator) -> None:
    """The bright, turned rectangle that collimation leaves around a hand, with grey air inside it and black beyond."""
    points = cv2.findNonZero(hand.astype(np.uint8))
    if points is None:
        return
    (x, y), (width, height), angle = cv2.minAreaRect(points)
    grown = (width + float(rng.uniform(-2, 40)), height + float(rng.uniform(-2, 30)))
    at = (x + float(rng.normal(0, 5)), y + float(rng.normal(0, 5)))
    turned = angle + float(rng.normal(0, 3))
    corners = cv2.boxPoints((at, grown, turned)).astype(np.int32)
    inside = np.zeros(image.shape, np.uint8)
    cv2.fillPoly(inside, [corners], 1)
    outline = np.zeros(image.shape, np.uint8)
    cv2.polylines(outline, [corners], True, 255, int(rng.integers(1, 14)))
    edge = cv2.GaussianBlur(outline.astype(np.float32) / 255, (0, 0), float(rng.uniform(0.4, 3)))
    image += (1 - soft) * inside * float(rng.uniform(0, 0.5)) + (1 - soft) * edge * float(rng.uniform(0.1, 1.2))
    if rng.random() < 0.6:
        image *= np.where(inside > 0, np.float32(1), np.float32(rng.uniform(0, 0.5)))


def _letters(image: Image, soft: Image, rng: np.random.Generator) -> None:
    side = image.shape[0]
    canvas = np.zeros(image.shape, np.uint8)
    text = "".join(rng.choice(list("LRJCO0178"), int(rng.integers(1, 4))))
    at = (int(rng.integers(0, side)), int(rng.integers(10, side)))
    if rng.random() < 0.5:
        cv2.rectangle(canvas, (at[0] - 3, at[1] - 20), (at[0] + 25, at[1] + 4), int(rng.integers(128)), -1)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.3, 0.9)), 255, int(rng.integers(1, 3)))
    image += canvas.astype(np.float32) / 255 * (1 - soft) * float(rng.uniform(0.4, 1.2))


def _collimate(image: Image, hand: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Black or white beyond a rectangle around the hand."""
    rows, columns = np.flatnonzero(hand.any(axis=1)), np.flatnonzero(hand.any(axis=0))
    if rows.size == 0:
        return
    outside = np.ones(image.shape, bool)
    pad = rng.integers(2, 30, 4)
    outside[max(rows[0] - pad[0], 0) : rows[-1] + pad[1], max(columns[0] - pad[2], 0) : columns[-1] + pad[3]] = False
    image[outside] = float(rng.choice([0.0, 0.05, 1.0])) if rng.random() < 0.7 else image[outside] * 0.3
