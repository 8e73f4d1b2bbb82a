"""The soft tissue of the hand: its outline, and how thick it is, built around the skeleton."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.phantom.canvas import Canvas
from training.data.phantom.maturity import maturity
from training.data.phantom.outlines import Points
from training.data.phantom.parameters import PhantomParameters
from training.data.phantom.skeleton import Skeleton

Image = NDArray[np.float32]

PLUMPNESS_YEARS: Final = (1, 3, 5, 9, 13, 18)
FINGER: Final = (0.250, 0.205, 0.175, 0.158, 0.150, 0.150)
"""Half width of the middle finger over the length of the third metacarpal, at `PLUMPNESS_YEARS` of maturity."""
WRIST: Final = (0.68, 0.60, 0.53, 0.45, 0.43, 0.43)
"""Half width of the wrist, likewise."""
FINGER_SHAPE: Final = ((0.0, 0.25, 0.45, 0.62, 0.80, 0.93, 1.0), (1.16, 1.04, 1.03, 0.95, 0.93, 0.84, 0.74))
"""Relative half width of a finger from its first joint (0) to its tip (1)."""
DIGIT_SIZE: Final = (1.16, 1.0, 1.02, 0.96, 0.86)


def soft_tissue(p: PhantomParameters, skeleton: Skeleton, canvas: Canvas) -> tuple[NDArray[np.bool_], Image]:
    """The hand's outline (H, W) and the thickness of soft tissue in mm (H, W)."""
    years = maturity(age_years=p.age_months / 12, sex=p.sex)
    finger = skeleton.unit_mm * float(np.interp(years, PLUMPNESS_YEARS, FINGER)) * p.soft_tissue
    wrist = skeleton.unit_mm * float(np.interp(years, PLUMPNESS_YEARS, WRIST)) * (0.5 + 0.5 * p.soft_tissue)
    shape = (canvas.height_px, canvas.width_px)
    outline, depth = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for digit in range(1, 6):
        _add_digit(outline, depth, skeleton.digits[digit - 1], finger * DIGIT_SIZE[digit - 1], canvas)
    palm = np.zeros(shape, np.uint8)
    _fill(palm, _palm(skeleton, finger, wrist), canvas)
    depth = np.maximum(depth, palm * np.float32(0.34 * skeleton.unit_mm * p.soft_tissue))
    forearm = np.zeros(shape, np.uint8)
    _fill(forearm, _forearm(p, skeleton, wrist), canvas)
    depth = np.maximum(depth, forearm * np.float32(1.15 * wrist))
    outline |= palm | forearm
    return _soften(outline, depth, finger, canvas)


def _soften(outline: NDArray[np.uint8], depth: Image, finger: float, canvas: Canvas) -> tuple[NDArray[np.bool_], Image]:
    """Round the outline, and let the depth pass smoothly from part to part and rise from the skin inwards."""
    sigma = max(0.24 * finger * canvas.px_per_mm, 0.5)
    mask = cv2.GaussianBlur(outline.astype(np.float32), (0, 0), sigma) > 0.5
    there = (depth > 0).astype(np.float32)
    size = (max(1, canvas.width_px // 4), max(1, canvas.height_px // 4))
    small, weight = (
        cv2.GaussianBlur(cv2.resize(x, size, interpolation=cv2.INTER_AREA), (0, 0), sigma) for x in (depth, there)
    )
    blurred = cv2.resize(small / np.maximum(weight, 0.05), (canvas.width_px, canvas.height_px))
    edge_mm = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1, mode="edge"), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rise = np.clip(edge_mm / canvas.px_per_mm / np.maximum(0.5 * blurred, 1e-3), 0, 1)
    return mask, np.asarray(blurred * np.sqrt(1 - (1 - rise) ** 2) * mask, np.float32)


def _add_digit(outline: NDArray[np.uint8], depth: Image, joints: Points, half_mm: float, canvas: Canvas) -> None:
    """A finger as a chain of discs from its first joint to beyond the end of its last bone."""
    chain = joints[1:].copy()
    last = chain[-1] - chain[-2]
    chain[-1] = chain[-1] - last / np.linalg.norm(last) * 0.38 * half_mm
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(chain, axis=0), axis=1))])
    for position in np.linspace(0, 1, 60):
        at = np.array([np.interp(position * lengths[-1], lengths, chain[:, axis]) for axis in (0, 1)])
        radius = half_mm * float(np.interp(position, *FINGER_SHAPE))
        disc = np.zeros(outline.shape, np.uint8)
        centre = np.rint(canvas.to_pixels(at[None])[0] * 16).astype(int)
        cv2.circle(disc, (int(centre[0]), int(centre[1])), round(radius * canvas.px_per_mm * 16), 1, -1, shift=4)
        outline |= disc
        depth[disc > 0] = np.maximum(depth[disc > 0], np.float32(1.75 * radius))


def _fill(outline: NDArray[np.uint8], points: Points, canvas: Canvas) -> None:
    cv2.fillPoly(outline, [np.rint(canvas.to_pixels(points) * 16).astype(np.int32)], 1, shift=4)


def _along(skeleton: Skeleton, digit: int, bone: int, fraction: float) -> Points:
    """A point on a digit's bone (0 metacarpal, 1 proximal phalanx), at a fraction of its length."""
    start, end = skeleton.digits[digit - 1][bone : bone + 2]
    return np.asarray(start + fraction * (end - start))


def _palm(skeleton: Skeleton, finger: float, wrist: float) -> Points:
    """The palm (N, 2): round from the wrist over the little finger's side, the webs and the thumb."""

    def side(digit: int, bone: int, fraction: float, out: float) -> Points:
        return np.asarray(_along(skeleton, digit, bone, fraction) + np.array([out * finger, 0.0]))

    webs = [(_along(skeleton, d, 1, 0.40) + _along(skeleton, d - 1, 1, 0.40)) / 2 for d in (5, 4, 3)]
    low = -27.0 * skeleton.spacing
    return np.array(
        [
            [-wrist - 4 * skeleton.spacing, low],
            side(5, 0, 0.1, -1.25),
            side(5, 0, 0.6, -1.05),
            side(5, 1, 0.0, -1.0),
            side(5, 1, 0.3, -0.8),
            *webs,
            side(2, 1, 0.35, 0.85),
            side(2, 1, 0.0, 1.05),
            side(2, 0, 0.72, 1.35),
            side(1, 1, 0.25, -1.0),
            side(1, 1, 0.3, 0.9),
            side(1, 0, 0.75, 1.15),
            side(1, 0, 0.05, 1.0),
            [0.85 * wrist - 6 * skeleton.spacing, low],
        ]
    )


def _forearm(p: PhantomParameters, skeleton: Skeleton, wrist: float) -> Points:
    """The wrist and forearm (N, 2), widening towards the elbow."""
    turn = np.radians(p.forearm_deg)
    along, across = np.array([-np.sin(turn), -np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    centre = np.array([-6.0, -20.0]) * skeleton.spacing
    reach = np.array([0.0, 0.35, 1.5, 6.0]) * skeleton.unit_mm
    width = wrist * np.array([0.92, 0.98, 1.12, 1.5])
    right = [centre + along * d + across * w for d, w in zip(reach, width, strict=True)]
    left = [centre + along * d - across * w for d, w in zip(reach, width, strict=True)]
    return np.array(right + left[::-1])
