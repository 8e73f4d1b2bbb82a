"""Realistic degradations of a good hand image: what the enhancer learns to undo (paper 2.3)."""

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of the drawn degradations leave a collimator's border on the hand, and how many the negative."""

    collimation: float = 0.0
    inversion: float = 0.0


NEITHER: Final = Shares()


@dataclass(frozen=True, slots=True)
class Collimation:
    """A border that cuts off some of the hand, which is `dimmed` to a share of its grey there.

    `cut` are shares of the hand's height and width at the top, right, bottom and left, below zero beside the hand. The
    border itself is brighter by `edge`, `edge_px` wide and blurred by `soft_px`.
    """

    cut: tuple[float, float, float, float]
    turned_deg: float
    dimmed: float
    edge: float
    edge_px: int
    soft_px: float


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
    collimation: Collimation | None = None
    inverted: bool = False


UNCHANGED: Final = Degradation(
    gamma=1.0, contrast=1.0, brightness=0.0, scatter=0.0, scatter_px=1.0, blur_px=0.0, noise=0.0, noise_seed=0
)
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "exposure": ("gamma", "contrast", "brightness"),
    "scatter": ("scatter", "scatter_px"),
    "blur": ("blur_px",),
    "noise": ("noise", "noise_seed"),
    "collimation": ("collimation",),
    "inversion": ("inverted",),
}
"""What belongs to each kind of degradation; by the first one sees whether it is there."""


def draw_degradation(rng: np.random.Generator, shares: Shares = NEITHER) -> Degradation:
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
        # Only drawn where they may be: without them everything else is drawn as it was before there were any.
        collimation=_draw_collimation(rng) if shares.collimation and rng.random() < shares.collimation else None,
        inverted=bool(shares.inversion and rng.random() < shares.inversion),
    )


def draw_kind(kind: str, rng: np.random.Generator) -> Degradation:
    """Draw a degradation of one of `KINDS` alone, as strong as it is drawn among others."""
    first, *others = KINDS[kind]
    drawn = UNCHANGED
    while getattr(drawn, first) == getattr(UNCHANGED, first):
        drawn = draw_degradation(rng, Shares(collimation=1, inversion=1))
    return replace(UNCHANGED, **{name: getattr(drawn, name) for name in (first, *others)})


def _draw_collimation(rng: np.random.Generator) -> Collimation:
    """Never down to black: what is not there any more cannot be brought back, only invented."""
    top, right, bottom, left = (float(cut) for cut in rng.uniform(-0.1, 0.12, 4))
    return Collimation(
        cut=(top, right, bottom, left),
        turned_deg=float(rng.normal(0, 3)),
        dimmed=float(rng.uniform(0.25, 0.75)),
        edge=float(rng.uniform(0, 0.4)),
        edge_px=int(rng.integers(1, 4)),
        soft_px=float(rng.uniform(0.4, 3)),
    )


def degrade(hand: Image, degradation: Degradation) -> Image:
    """Apply to a hand (S, S) in [0, 1]; what is zero, outside the mask, stays zero."""
    inside = hand > 0
    result = np.power(hand, np.float32(degradation.gamma))
    if degradation.collimation:
        result = _collimated(result, inside, degradation.collimation)
    if degradation.scatter:
        veil = cv2.GaussianBlur(result, (0, 0), degradation.scatter_px)
        result = (1 - degradation.scatter) * result + degradation.scatter * veil
    result = result * degradation.contrast + min(degradation.brightness, 1 - degradation.contrast)
    if degradation.blur_px:
        result = cv2.GaussianBlur(result, (0, 0), degradation.blur_px)
    if degradation.noise:
        noise = np.random.default_rng(degradation.noise_seed).standard_normal(hand.shape, dtype=np.float32)
        result = result + degradation.noise * noise
    if degradation.inverted:
        result = 1 - result
    return np.where(inside, np.clip(result, 1 / 255, 1), 0).astype(np.float32)


def _collimated(image: Image, inside: NDArray[np.bool_], border: Collimation) -> Image:
    x, y, width, height = cv2.boundingRect(inside.astype(np.uint8))
    top, right, bottom, left = border.cut
    centre = (x + width * (1 + left - right) / 2, y + height * (1 + top - bottom) / 2)
    size = (width * (1 - left - right), height * (1 - top - bottom))
    corners = np.rint(cv2.boxPoints((centre, size, border.turned_deg))).astype(np.int32)
    field, edge = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.float32)
    cv2.fillPoly(field, [corners], 1)
    cv2.polylines(edge, [corners], True, 1, border.edge_px)
    field, edge = (np.asarray(cv2.GaussianBlur(one, (0, 0), border.soft_px), np.float32) for one in (field, edge))
    return np.asarray(image * (border.dimmed + (1 - border.dimmed) * field) + border.edge * edge, np.float32)


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
