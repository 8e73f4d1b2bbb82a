"""An ossified part: a closed outline in millimetres with what its attenuation is computed from."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from training.data.phantom.outlines import Points


@dataclass(frozen=True, slots=True)
class Part:
    """One ossified part of a bone.

    `outline` (N, 2) in mm of the hand's frame; `origin` and `along` its axis, from the end with the epiphysis;
    `length_mm` the whole bone's; `cortex_mm` the cortex at the ends and at the middle of that length; `depth` the
    thickness across the image over the width in it; `weight` scales its attenuation; `ossification` marks epiphyses
    and carpals; `is_tube` says that sections across the axis are round (else the part is a pebble).
    """

    name: str
    outline: Points
    origin: Points
    along: Points
    length_mm: float
    cortex_mm: tuple[float, float]
    depth: float
    weight: float
    ossification: bool
    is_tube: bool

    @classmethod
    def round_bone(cls, name: str, outline: Points) -> Self:
        """A carpal or a sesamoid."""
        extent = float(np.ptp(outline[:, 1]))
        return cls(
            name=name,
            outline=outline,
            origin=outline.min(axis=0),
            along=np.array([0.0, 1.0]),
            length_mm=extent,
            cortex_mm=(0.35, 0.35),
            depth=0.8,
            weight=1.0,
            ossification=True,
            is_tube=False,
        )


def grown_outline(final: Points, *, extent: float, roundness: float, rng: np.random.Generator) -> Points:
    """An outline on its way to the `final` one (N, 2): smaller by `extent` about the centroid, nearer to an ellipse."""
    centre = final.mean(axis=0)
    spread = np.ptp(final, axis=0) / 2
    rays = final - centre
    angle = np.arctan2(rays[:, 1] / spread[1], rays[:, 0] / spread[0])
    ellipse = np.stack([np.cos(angle), np.sin(angle)], 1) * spread * 0.97
    waves = sum(rng.normal(0, 0.012) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5, 7))
    return np.asarray(centre + extent * ((1 - roundness) * rays + roundness * ellipse) * (1 + waves)[:, None])


def blob(name: str, final: Points, *, extent: float, swell: float, rng: np.random.Generator) -> Part:
    """A carpal grown to `extent` of its final outline; facets appear as it fills out."""
    outline = grown_outline(
        final, extent=extent * swell, roundness=float(np.clip(1.25 - 1.25 * extent**2, 0, 1)), rng=rng
    )
    return Part.round_bone(name, outline)
