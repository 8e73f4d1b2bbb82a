"""The ossified parts of a metacarpal or phalanx: shaft, epiphysis and, as they fuse, the whole."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.data.phantom.maturity import epiphysis, physis_narrowing
from training.data.phantom.outlines import (
    EPIPHYSIS,
    FAR_END,
    HALF_WIDTH,
    POSITION,
    Points,
    at_stage,
    smooth_closed,
)
from training.data.phantom.parameters import PhantomParameters
from training.data.phantom.parts import Part, grown_outline

CORTEX: Final = {"metacarpal": 0.034, "proximal": 0.037, "middle": 0.046, "distal": 0.045}
"""Thickness of the cortex at mid shaft over the bone's length."""


@dataclass(frozen=True, slots=True)
class LongBone:
    """Where a bone lies: its proximal end `start` (2,) in mm, unit vector `along` to the distal end, its build."""

    name: str
    start: Points
    along: Points
    length_mm: float
    stoutness: float

    @property
    def kind(self) -> str:
        """Its row in the tables of outlines."""
        return self.name if self.name == "metacarpal1" else self.name.rstrip("12345")

    @property
    def epiphysis_is_distal(self) -> bool:
        """The second to fifth metacarpals grow at their heads, all other bones of the hand at their bases."""
        return self.kind == "metacarpal"


def long_bone_parts(bone: LongBone, p: PhantomParameters, *, mature: float, rng: np.random.Generator) -> list[Part]:
    """Shaft and epiphysis, fading into the whole bone while they fuse."""
    state = epiphysis(bone.name, age_years=p.age_months / 12, sex=p.sex)
    narrowing = physis_narrowing(bone.name, age_years=p.age_months / 12, sex=p.sex)
    metaphysis = float(at_stage(EPIPHYSIS[bone.kind], mature))
    far_end = float(at_stage(FAR_END[bone.kind], mature))
    shaft = _profile(bone, mature, metaphysis, far_end, rng)
    parts = []
    if state.fusion < 1:
        parts.append(_part(bone, p, "shaft", shaft, weight=1 - state.fusion))
    if state.extent > 0:
        gap = 0.05 - 0.037 * narrowing
        final = _profile(bone, mature, 0.03 * (1 - narrowing), metaphysis - gap, rng)
        outline = _epiphysis_outline(final, state.extent, rng)
        parts.append(_part(bone, p, "epiphysis", outline, weight=1 - state.fusion))
    if state.fusion > 0:
        parts.append(_part(bone, p, "whole", _profile(bone, mature, 0.0, far_end, rng), weight=state.fusion))
    return parts


def _epiphysis_outline(final: Points, extent: float, rng: np.random.Generator) -> Points:
    """The epiphysis in the bone's own frame: narrower and thinner than the `final` one, and rounder."""
    centre = final.mean(axis=0)
    thickness = 0.5 + 0.5 * extent
    outline = grown_outline(final, extent=1.0, roundness=float(np.clip(1.2 - 1.2 * extent, 0, 1)), rng=rng)
    return np.asarray(centre + (outline - centre) * np.array([extent, thickness]))


def _profile(bone: LongBone, mature: float, first: float, last: float, rng: np.random.Generator) -> Points:
    """The outline (N, 2) as (across, along) fractions of the length, between two positions on the axis.

    An end at the growth plate is cut there, with rounded corners; a natural end tapers as the table says.
    """
    table = at_stage(HALF_WIDTH[bone.kind], mature) * bone.stoutness
    cut = last < 0.5
    inner = np.array([x for x in POSITION if first + 0.03 < x < (last - 0.02 if cut else 1.0)])
    position = np.concatenate([[first, first + 0.012], inner, [last - 0.01, last] if cut else [1.0]])
    half = np.interp(position, POSITION, table)
    if first > 0.05:
        half[0] *= 0.90
    if cut:
        half[-1] *= 0.88
    else:
        position = np.where(position > 0.8, 0.8 + (position - 0.8) * (last - 0.8) / 0.2, position)
    lean = float(rng.normal(0, 0.010))
    ripple = 1 + rng.normal(0, 0.012, (2, len(position)))
    bend = lean * np.sin(np.pi * position)
    left = np.stack([bend - half * ripple[0], position], 1)
    right = np.stack([bend + half * ripple[1], position], 1)
    return smooth_closed(np.concatenate([left, right[::-1]]))


def _part(bone: LongBone, p: PhantomParameters, role: str, outline: Points, *, weight: float) -> Part:
    """Bring an outline from the bone's own frame into the hand's."""
    axis = -bone.along if bone.epiphysis_is_distal else bone.along
    origin = bone.start + bone.along * bone.length_mm if bone.epiphysis_is_distal else bone.start
    across = np.array([axis[1], -axis[0]])
    placed = origin + bone.length_mm * (outline[:, :1] * across + outline[:, 1:] * axis)
    middle = CORTEX[bone.name.rstrip("12345")] * bone.length_mm * p.cortex
    return Part(
        name=f"{bone.name}.{role}",
        outline=placed,
        origin=origin,
        along=axis,
        length_mm=bone.length_mm,
        cortex_mm=(0.3, middle),
        depth=0.95,
        weight=weight,
        ossification=role == "epiphysis",
        is_tube=True,
    )
