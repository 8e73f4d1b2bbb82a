"""Bones that were not there, and bones that are gone: what the gate on structure must see (paper 2.3 has no such gate).

Each change has a size, so that its detection can be told by size; beside them stand changes of contrast alone, which
the gate must let pass.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.gates import structure_change
from training.data.rows import as_bytes

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

DIAMETERS_PX: Final = (4, 6, 8, 12, 16)
PLANTED_GREY: Final = (0.12, 0.3)
"""How much brighter than its surroundings a planted centre is: carpals of young children, in the hand's grey scale."""
RIM_PX: Final = 1.2
FALSE_ALARMS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Centres:
    """Ossified centres of one hand (S, S), as (row, column, diameter) in pixels, and where tissue has none."""

    found: list[tuple[int, int, float]]
    tissue: Mask

    @classmethod
    def of(cls, hand: Image, bone: Mask) -> "Centres":
        """The single centres of a map of ossified bone; `tissue` is 10 px from the hand's border and from any bone."""
        count, _, boxes, centroids = cv2.connectedComponentsWithStats(bone.astype(np.uint8))
        found = []
        for label in range(1, count):
            width, height = boxes[label, cv2.CC_STAT_WIDTH], boxes[label, cv2.CC_STAT_HEIGHT]
            if boxes[label, cv2.CC_STAT_AREA] >= 9 and max(width, height) <= 1.25 * max(DIAMETERS_PX):
                column, row = centroids[label]
                found.append((round(row), round(column), float(max(width, height))))
        free = cv2.distanceTransform(((hand > 0) & ~bone).astype(np.uint8), cv2.DIST_L2, 5) > 10
        return cls(found, free)


def plant(hand: Image, row: int, column: int, diameter: float, grey: float) -> Image:
    """A bone-like disc with a soft rim at a place of a hand (S, S)."""
    rows, columns = np.indices(hand.shape)
    distance = np.hypot(rows - row, columns - column)
    disc = 1 / (1 + np.exp((distance - diameter / 2) / (RIM_PX / 2)))
    return np.asarray(np.where(hand > 0, np.clip(hand + np.float32(grey) * disc, 1 / 255, 1), 0), np.float32)


def erase(hand: Image, row: int, column: int, diameter: float) -> Image:
    """A hand (S, S) whose disc at a place is filled in from its surroundings.

    Telea A, "An Image Inpainting Technique Based on the Fast Marching Method", J. Graphics Tools, 2004.
    """
    disc = np.zeros(hand.shape, np.uint8)
    cv2.circle(disc, (column, row), int(np.ceil(diameter / 2)) + 1, 1, -1)
    filled = cv2.inpaint(as_bytes(hand), disc, 3, cv2.INPAINT_TELEA)
    return np.asarray(np.where((disc > 0) & (hand > 0), filled.astype(np.float32) / np.float32(255), hand), np.float32)


def contrast_change(hand: Image, rng: np.random.Generator) -> Image:
    """What a good enhancement does and the gate must not refuse: gamma and a stretch of the grey levels."""
    gamma, low = float(np.exp(rng.uniform(-0.6, 0.6))), float(rng.uniform(0, 0.12))
    gain = float(rng.uniform(0.75, 1.3))
    stretched = np.clip((hand - low) * gain / (1 - low), 1 / 255, 1)
    return np.where(hand > 0, np.power(stretched, np.float32(gamma)), 0).astype(np.float32)


def responses(hand: Image, bone: Mask, rng: np.random.Generator) -> tuple[float, dict[tuple[str, int], float]]:
    """The gate's value for one hand (S, S) of which only the contrast changed, and with one more thing changed.

    The latter by what it was, `planted` or `erased`, and its diameter, the nearest of DIAMETERS_PX; what the hand has
    no place for is left out.
    """
    centres = Centres.of(hand, bone)
    allowed = contrast_change(hand, rng)
    found: dict[tuple[str, int], float] = {}
    places = np.argwhere(centres.tissue)
    for diameter in DIAMETERS_PX:
        if len(places):
            row, column = (int(v) for v in places[rng.integers(len(places))])
            changed = plant(allowed, row, column, diameter, float(rng.uniform(*PLANTED_GREY)))
            found["planted", diameter] = structure_change(hand, changed)
    for row, column, size in centres.found:
        nearest = DIAMETERS_PX[int(np.argmin(np.abs(np.array(DIAMETERS_PX) - size)))]
        if ("erased", nearest) not in found:
            found["erased", nearest] = structure_change(hand, erase(allowed, row, column, size))
    return structure_change(hand, allowed), found


@dataclass(frozen=True, slots=True)
class Detection:
    """What a limit of the gate sees: the share detected of each kind and diameter, and of how many."""

    limit: float
    false_alarms: float
    detected: dict[tuple[str, int], tuple[float, int]]


def detection(
    allowed: NDArray[np.float64], changed: dict[tuple[str, int], NDArray[np.float64]], *, limit: float | None = None
) -> Detection:
    """Detection at a limit, or at that which `FALSE_ALARMS` of the allowed changes (N,) exceed."""
    chosen = float(np.quantile(allowed, 1 - FALSE_ALARMS)) if limit is None else limit
    return Detection(
        limit=chosen,
        false_alarms=float((allowed > chosen).mean()),
        detected={kind: (float((values > chosen).mean()), len(values)) for kind, values in sorted(changed.items())},
    )
