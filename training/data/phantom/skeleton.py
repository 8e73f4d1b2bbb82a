"""The skeleton of a hand at one age: every bone's ossified parts, placed in millimetres.

The frame of the hand has its origin in the centre of the capitate, x towards the thumb and y towards the fingers.
Lengths after Garn, Hertzog, Poznanski and Nagy, "Metacarpophalangeal length in the evaluation of skeletal
malformation", Radiology 105 (1972), rounded; their growth with age after the same tables.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from training.data.phantom.forearm import forearm_parts
from training.data.phantom.longbone import LongBone, long_bone_parts
from training.data.phantom.maturity import Sex, carpal_extent, maturity, onset_years
from training.data.phantom.outlines import CARPALS, Points, smooth_closed
from training.data.phantom.parameters import PhantomParameters
from training.data.phantom.parts import Part, blob

LENGTH_MM: Final[dict[str, tuple[float, ...]]] = {
    "metacarpal": (46.5, 70.5, 68.0, 60.5, 55.5),
    "proximal": (33.0, 42.5, 47.5, 44.5, 35.5),
    "middle": (0.0, 25.5, 30.5, 29.0, 20.5),
    "distal": (24.0, 19.0, 20.5, 20.5, 18.0),
}
"""Adult male lengths of the bones of digits 1 to 5."""

STOUTNESS: Final[dict[str, tuple[float, ...]]] = {
    "metacarpal": (1.0, 0.98, 1.0, 0.97, 1.06),
    "proximal": (1.24, 1.05, 1.0, 1.0, 1.1),
    "middle": (1.0, 1.08, 1.0, 0.99, 1.16),
    "distal": (1.08, 1.02, 1.0, 1.0, 0.98),
}
"""Width over length, relative to the third digit (the first metacarpal has outlines of its own)."""

GROWTH_YEARS: Final = (0, 1, 2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 18)
GROWTH: Final[dict[Sex, tuple[float, ...]]] = {
    "male": (0.30, 0.38, 0.445, 0.55, 0.63, 0.70, 0.765, 0.83, 0.875, 0.925, 0.965, 0.99, 1.0),
    "female": (0.29, 0.375, 0.445, 0.55, 0.635, 0.705, 0.78, 0.865, 0.90, 0.92, 0.93, 0.935, 0.935),
}
"""Length of the third metacarpal at `GROWTH_YEARS`, as a fraction of a man's."""

BASES_MM: Final = ((33.0, 4.0), (12.0, 11.0), (0.0, 12.5), (-12.0, 11.0), (-21.5, 8.0))
"""Where the metacarpals of digits 1 to 5 begin, in an adult wrist."""

WRIST_SPACING: Final = ((1.0, 3.0, 5.0, 10.0, 18.0), (1.48, 1.32, 1.20, 1.06, 1.0))
"""Room of the carpus relative to the metacarpals, by maturity in years: most of it is cartilage in an infant."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A placed skeleton in mm: parts to draw, joints as (x, y, radius), and what the soft tissue is built on."""

    parts: list[Part]
    joints: list[tuple[float, float, float]]
    digits: list[Points] = field(default_factory=list)
    unit_mm: float = 0.0
    """Length of the third metacarpal."""
    spacing: float = 1.0
    """Size of the carpus relative to an adult man's."""


def direction(angle_deg: float) -> Points:
    """The unit vector (2,) at an angle from the y axis, positive towards the thumb."""
    return np.array([np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])


def build_skeleton(p: PhantomParameters) -> Skeleton:
    """Place every ossified part of the hand that `p` describes."""
    years = p.age_months / 12
    mature = maturity(age_years=years, sex=p.sex)
    unit_mm = LENGTH_MM["metacarpal"][2] * float(np.interp(years, GROWTH_YEARS, GROWTH[p.sex])) * p.size
    spacing = unit_mm / LENGTH_MM["metacarpal"][2] * float(np.interp(mature, *WRIST_SPACING))
    rng = np.random.default_rng((p.seed, 1))
    skeleton = Skeleton(parts=[], joints=[], unit_mm=unit_mm, spacing=spacing)
    forearm, joint = forearm_parts(p, mature=mature, unit_mm=unit_mm, spacing=spacing)
    skeleton.parts.extend(forearm)
    skeleton.joints.append(joint)
    skeleton.parts.extend(_carpal_parts(p, mature, spacing, rng))
    skeleton.joints.append((0.0, -4.0 * spacing, 24.0 * spacing))
    for digit in range(1, 6):
        _add_ray(skeleton, p, digit, mature, rng)
    return skeleton


def _carpal_parts(p: PhantomParameters, mature: float, spacing: float, rng: np.random.Generator) -> list[Part]:
    parts = []
    for name, polygon in CARPALS.items():
        extent = carpal_extent(name, age_years=p.age_months / 12, sex=p.sex)
        if extent == 0.0:
            continue
        adult = smooth_closed(np.asarray(polygon, np.float64)) * spacing
        overlap = float(np.interp(mature, (8, 16), (0.96, 1.06)))
        parts.append(blob(name, adult, extent=extent, swell=overlap, rng=rng))
    return parts


def _angles(p: PhantomParameters, digit: int, rng: np.random.Generator) -> tuple[float, float]:
    """Angle of a digit's metacarpal and of its fingers, degrees towards the thumb."""
    metacarpal = (26 + 14 * p.spread + p.thumb_deg, 9.0, -1.5, -10.0, -20.0)[digit - 1]
    finger = (
        18 + 17 * p.spread + p.thumb_deg,
        5 + 14 * p.spread,
        -1.0 - p.spread,
        -6 - 10 * p.spread,
        -14 - 17 * p.spread,
    )[digit - 1]
    return metacarpal + float(rng.normal(0, 1.0)), finger + float(rng.normal(0, 2.0))


def _add_ray(skeleton: Skeleton, p: PhantomParameters, digit: int, mature: float, rng: np.random.Generator) -> None:
    metacarpal_deg, finger_deg = _angles(p, digit, rng)
    scale = skeleton.unit_mm / LENGTH_MM["metacarpal"][2]
    space = skeleton.unit_mm * float(np.interp(mature, (1, 8, 18), (0.016, 0.012, 0.009))) * p.joint_space
    base = np.asarray(BASES_MM[digit - 1]) * skeleton.spacing
    points, along = [base], direction(metacarpal_deg)
    at = base
    for kind in ("metacarpal", "proximal", "middle", "distal"):
        length = LENGTH_MM[kind][digit - 1] * scale * float(np.clip(rng.normal(1, 0.012), 0.97, 1.03))
        if length == 0.0:
            continue
        if kind != "metacarpal":
            along = direction(finger_deg)
            finger_deg += float(rng.normal(0, 1.2))
        bone = LongBone(
            name=f"{kind}{digit}",
            start=at,
            along=along,
            length_mm=length,
            stoutness=STOUTNESS[kind][digit - 1] * p.shaft_width,
        )
        skeleton.parts.extend(long_bone_parts(bone, p, mature=mature, rng=rng))
        at = at + along * (length + space)
        points.append(at)
        skeleton.joints.append((float(at[0]), float(at[1]), 0.2 * length + 3 * scale))
    skeleton.joints.pop()
    skeleton.digits.append(np.array(points))
    if digit == 1:
        _add_sesamoid(skeleton, p, points[1])


def _add_sesamoid(skeleton: Skeleton, p: PhantomParameters, joint: Points) -> None:
    """The adductor's sesamoid, on the inner side of the thumb's first joint."""
    grown = p.age_months / 12 - onset_years("sesamoid", p.sex)
    if grown <= 0:
        return
    radius = 2.4 * min(1.0, 0.45 + 0.3 * grown) * skeleton.unit_mm / LENGTH_MM["metacarpal"][2]
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    centre = joint + np.array([-0.115, -0.03]) * skeleton.unit_mm
    outline = centre + radius * np.stack([np.cos(turn), 0.85 * np.sin(turn)], 1)
    skeleton.parts.append(replace(Part.round_bone("sesamoid", outline), cortex_mm=(0.4, 0.4)))
