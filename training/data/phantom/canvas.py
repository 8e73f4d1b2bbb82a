"""Where a placed hand lies on the canvas: millimetres of the hand's frame to pixels and back."""

from dataclasses import dataclass

import numpy as np

from training.data.phantom.outlines import Points
from training.data.phantom.parameters import PhantomParameters
from training.data.phantom.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class Canvas:
    """A canvas of (height_px, width_px); `matrix` (2, 3) takes (x, y, 1) in mm to (column, row) in pixels."""

    height_px: int
    width_px: int
    matrix: Points
    px_per_mm: float

    def to_pixels(self, points: Points) -> Points:
        """(N, 2) mm to (N, 2) pixels as (column, row)."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2])

    def vector(self, direction: Points) -> Points:
        """A direction (2,) in the hand's frame as a unit vector on the canvas."""
        return np.asarray(self.matrix[:, :2] @ direction / self.px_per_mm)


def place(p: PhantomParameters, skeleton: Skeleton, *, height_px: int) -> Canvas:
    """Fit the hand on a canvas of `height_px` rows: fingertips near the top, the forearm leaving at the bottom."""
    width_px = round(height_px / p.aspect)
    turn = np.radians(p.rotation_deg)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    if p.right_hand:
        rotation[0] *= -1
    rotation[1] *= -1
    tips = np.concatenate(skeleton.digits) @ rotation.T
    flesh = 0.13 * skeleton.unit_mm
    wrist = float((rotation @ np.array([0.0, -27.0 * skeleton.spacing]))[1])
    left, right, top = tips[:, 0].min() - flesh, tips[:, 0].max() + flesh, tips[:, 1].min() - flesh
    scale = min(height_px * (p.fill - p.forearm) / (wrist - top), 0.97 * width_px / (right - left))
    rng = np.random.default_rng((p.seed, 2))
    slack = max(0.0, 0.96 * width_px - scale * (right - left))
    column = width_px / 2 - scale * (left + right) / 2 + slack * float(rng.uniform(-0.25, 0.25))
    spare = height_px * (p.fill - p.forearm) - scale * (wrist - top)
    row = height_px * (1 - p.fill) * 0.8 + 0.5 * spare - scale * top
    matrix = np.column_stack([scale * rotation, [column, row]])
    return Canvas(height_px=height_px, width_px=width_px, matrix=matrix, px_per_mm=float(scale))
