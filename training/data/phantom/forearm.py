"""The ossified parts of the distal radius and ulna, which run out of the picture at the bottom."""

from typing import Final

import numpy as np

from training.data.phantom.maturity import epiphysis, physis_narrowing
from training.data.phantom.outlines import Points, smooth_closed
from training.data.phantom.parameters import PhantomParameters
from training.data.phantom.parts import Part, grown_outline

RADIUS: Final = (
    ((-0.50, 0.03), (-0.20, 0.06), (0.10, 0.02), (0.35, -0.07), (0.47, -0.16), (0.52, -0.04), (0.50, 0.13)),
    (
        (0.50, 0.27),
        (0.46, 0.42),
        (0.40, 0.70),
        (0.31, 1.1),
        (0.22, 1.6),
        (0.16, 2.2),
        (0.13, 3.2),
        (0.13, 9),
        (-0.36, 9),
        (-0.36, 3),
        (-0.37, 2),
        (-0.41, 1.2),
        (-0.45, 0.7),
        (-0.48, 0.42),
        (-0.50, 0.27),
    ),
    (-0.51, 0.13),
)
"""Distal radius: its epiphysis, its shaft from the physis and back, and the epiphysis's last corner.

(across, along) in widths of the bone, across towards the thumb and along away from the hand."""

ULNA: Final = (
    ((-0.48, -0.08), (-0.36, -0.28), (-0.22, -0.03), (0.1, 0.0), (0.42, 0.04), (0.5, 0.25)),
    (
        (0.49, 0.5),
        (0.45, 0.75),
        (0.40, 1.1),
        (0.36, 1.7),
        (0.33, 3),
        (0.33, 18),
        (-0.36, 18),
        (-0.36, 3),
        (-0.38, 1.7),
        (-0.42, 1.1),
        (-0.46, 0.75),
        (-0.5, 0.5),
    ),
    (-0.52, 0.2),
)
"""Distal ulna, likewise; its styloid process is on the side of the little finger."""

WIDTH: Final = {
    "radius": ((1, 5, 10, 13, 17), (0.48, 0.45, 0.45, 0.48, 0.53)),
    "ulna": ((1, 5, 10, 13, 17), (0.27, 0.25, 0.20, 0.21, 0.245)),
}
"""Width of the distal end over the length of the third metacarpal, by maturity in years."""

AT_MM: Final = {"radius": (4.5, -26.0), "ulna": (-24.0, -28.0)}
"""Middle of the joint surface in an adult wrist."""

PHYSIS: Final = {"radius": 0.27, "ulna": 0.5}


def forearm_parts(
    p: PhantomParameters, *, mature: float, unit_mm: float, spacing: float
) -> tuple[list[Part], tuple[float, float, float]]:
    """Parts of radius and ulna, and the wrist's joint (x, y, radius), in mm of the hand's frame."""
    parts: list[Part] = []
    turn = np.radians(p.forearm_deg)
    along = np.array([-np.sin(turn), -np.cos(turn)])
    for name, (head, shaft, corner) in {"radius": RADIUS, "ulna": ULNA}.items():
        width = unit_mm * float(np.interp(mature, *WIDTH[name])) * p.shaft_width
        origin = np.asarray(AT_MM[name]) * spacing
        parts.extend(_bone(p, name, np.array([*head, *shaft, corner]), len(head), origin, along, width))
    centre = np.array([-6.0, -29.0]) * spacing
    return parts, (float(centre[0]), float(centre[1]), 24.0 * spacing)


def _bone(
    p: PhantomParameters,
    name: str,
    adult: Points,
    split: int,
    origin: Points,
    along: Points,
    width: float,
) -> list[Part]:
    rng = np.random.default_rng((p.seed, len(name)))
    years = p.age_months / 12
    state = epiphysis(name, age_years=years, sex=p.sex)
    narrowing = physis_narrowing(name, age_years=years, sex=p.sex)
    physis = PHYSIS[name] + 0.12 * (1 - narrowing)
    gap = 0.13 - 0.095 * narrowing
    shaft, head = adult[split:-1].copy(), np.concatenate([adult[:split], adult[-1:]])
    shaft[[0, -1], 1] = physis
    shaft[[1, -2], 1] = np.maximum(shaft[[1, -2], 1], physis + 0.12)
    shaft_outline = smooth_closed(shaft)
    base = np.array([[adult[split, 0], physis - gap], [adult[-2, 0], physis - gap]])
    head_outline = smooth_closed(np.concatenate([adult[:split], base, adult[-1:]]))
    place = _Placing(p, name, origin, along, width)
    parts = []
    if state.fusion < 1:
        parts.append(place.part("shaft", shaft_outline, 1 - state.fusion))
    if state.extent > 0:
        outline = grown_outline(head_outline, extent=1.0, roundness=float(np.clip(1 - state.extent, 0, 1)), rng=rng)
        centre = np.array([0.05, physis - gap - 0.04]) * (1 - state.extent) + head.mean(axis=0) * state.extent
        outline = centre + (outline - outline.mean(axis=0)) * np.array([state.extent, 0.35 + 0.65 * state.extent])
        parts.append(place.part("epiphysis", outline, 1 - state.fusion))
    if state.fusion > 0:
        parts.append(place.part("whole", smooth_closed(adult), state.fusion))
    return parts


class _Placing:
    """Brings outlines of one bone of the forearm into the hand's frame."""

    def __init__(self, p: PhantomParameters, name: str, origin: Points, along: Points, width: float) -> None:
        self.p, self.name, self.origin, self.along, self.width = p, name, origin, along, width

    def part(self, role: str, outline: Points, weight: float) -> Part:
        across = np.array([-self.along[1], self.along[0]])
        placed = self.origin + self.width * (outline[:, :1] * across + outline[:, 1:] * self.along)
        return Part(
            name=f"{self.name}.{role}",
            outline=placed,
            origin=self.origin,
            along=self.along,
            length_mm=self.width * (6 if self.name == "radius" else 12),
            cortex_mm=(0.4, self.width * (0.085 if self.name == "radius" else 0.15) * self.p.cortex),
            depth=0.75,
            weight=weight,
            ossification=role == "epiphysis",
            is_tube=True,
        )
