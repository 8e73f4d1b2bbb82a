"""When the hand's ossification centres appear, fill out and fuse, by sex: the clock of the drawn phantom.

Sources: onset, Garn, Rohmann and Silverman, "Radiographic standards for postnatal ossification and tooth
calcification", Medical Radiography and Photography 43 (1967), medians of 50%; fusion and the width of the epiphyses,
Greulich and Pyle, "Radiographic Atlas of Skeletal Development of the Hand and Wrist", 2nd ed. (1959), and Gilsanz and
Ratib, "Hand Bone Age" (2005). Values are rounded. Girls are ahead of boys by a few months at birth and by about two
years in adolescence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Sex = Literal["male", "female"]

ONSET_YEARS: Final[dict[str, tuple[float, float]]] = {
    "capitate": (0.25, 0.20),
    "hamate": (0.32, 0.22),
    "radius": (1.10, 0.84),
    "proximal3": (1.36, 0.85),
    "proximal2": (1.40, 0.87),
    "proximal4": (1.48, 0.90),
    "distal1": (1.56, 1.00),
    "metacarpal2": (1.60, 1.06),
    "metacarpal3": (1.75, 1.12),
    "proximal5": (1.80, 1.20),
    "middle3": (2.00, 1.25),
    "metacarpal4": (2.00, 1.28),
    "middle4": (2.05, 1.25),
    "metacarpal5": (2.20, 1.38),
    "middle2": (2.15, 1.33),
    "triquetral": (2.45, 1.75),
    "distal3": (2.40, 1.50),
    "distal4": (2.42, 1.52),
    "metacarpal1": (2.60, 1.60),
    "proximal1": (2.90, 1.70),
    "distal5": (3.30, 1.98),
    "distal2": (3.20, 2.10),
    "middle5": (3.40, 1.90),
    "lunate": (4.05, 2.65),
    "scaphoid": (5.65, 4.10),
    "trapezium": (5.85, 4.05),
    "trapezoid": (6.20, 4.20),
    "ulna": (7.10, 5.40),
    "pisiform": (10.2, 8.3),
    "sesamoid": (12.75, 10.70),
}
"""Centre -> median age of appearance in years (male, female), Garn et al. 1967; pisiform after Gilsanz and Ratib."""

FUSION_YEARS: Final[dict[str, tuple[float, float, float, float]]] = {
    "distal": (14.6, 15.8, 12.4, 13.7),
    "proximal": (15.2, 16.4, 13.2, 14.6),
    "middle": (15.2, 16.4, 13.2, 14.6),
    "metacarpal1": (15.0, 16.1, 12.8, 14.2),
    "metacarpal": (15.6, 16.7, 13.6, 15.1),
    "ulna": (16.2, 17.6, 14.8, 16.4),
    "radius": (16.8, 17.95, 15.4, 17.0),
}
"""Bone -> fusion begins and is complete (male, male, female, female) in years, Greulich and Pyle; Gilsanz and Ratib."""

CAPPING_YEARS: Final[dict[str, tuple[float, float]]] = {
    "distal": (12.6, 10.6),
    "proximal": (12.8, 10.7),
    "middle": (13.2, 11.2),
    "metacarpal1": (12.8, 10.8),
    "metacarpal": (12.5, 10.6),
    "ulna": (14.8, 12.8),
    "radius": (12.8, 10.8),
}
"""Bone -> age in years (male, female) at which the epiphysis is as wide as its metaphysis and begins to cap it."""


@dataclass(frozen=True, slots=True)
class Epiphysis:
    """The state of one epiphysis: `extent` of its final size (0 absent, 1 as wide as the metaphysis) and `fusion`."""

    extent: float
    fusion: float


def _of(table: Mapping[str, tuple[float, ...]], bone: str) -> tuple[float, ...]:
    """The row of a bone, or of its kind ("proximal3" -> "proximal")."""
    return table[bone] if bone in table else table[bone.rstrip("12345")]


def onset_years(centre: str, sex: Sex) -> float:
    """Median age in years at which a centre appears."""
    return ONSET_YEARS[centre][0 if sex == "male" else 1]


def epiphysis(bone: str, *, age_years: float, sex: Sex) -> Epiphysis:
    """How far the epiphysis of a long bone has come at `age_years`."""
    column = 0 if sex == "male" else 1
    onset, equal = onset_years(bone, sex), _of(CAPPING_YEARS, bone)[column]
    if age_years <= onset:
        return Epiphysis(extent=0.0, fusion=0.0)
    begins, complete = _of(FUSION_YEARS, bone)[2 * column : 2 * column + 2]
    elapsed = min(1.0, (age_years - onset) / (equal - onset))
    # Fast at first, then slow until the spurt of adolescence, when the epiphysis comes to cap its metaphysis.
    extent = 0.22 + 0.78 * (0.8 * elapsed**0.45 + 0.2 * elapsed**6)
    fusion = float(np.clip((age_years - begins) / (complete - begins), 0.0, 1.0))
    return Epiphysis(extent=extent, fusion=fusion)


def physis_narrowing(bone: str, *, age_years: float, sex: Sex) -> float:
    """How far the growth plate has thinned, 0 in infancy to 1 when fusion begins."""
    begins = _of(FUSION_YEARS, bone)[0 if sex == "male" else 2]
    return float(np.clip(age_years / begins, 0.0, 1.0))


def carpal_extent(centre: str, *, age_years: float, sex: Sex) -> float:
    """Linear size of a round bone relative to its final outline: 0 before onset, then a saturating growth to 1."""
    onset = onset_years(centre, sex)
    if age_years <= onset:
        return 0.0
    time_constant = 2.3 if sex == "male" else 2.0
    return float(0.2 + 0.8 * (1 - np.exp(-(age_years - onset) / time_constant)))


def maturity(*, age_years: float, sex: Sex) -> float:
    """Overall maturity on the boys' scale of years: a girl's age is mapped to the age of a boy as far advanced."""
    if sex == "male":
        return age_years
    return float(np.interp(age_years, (0, 1, 2, 5, 8, 11, 13, 15, 18), (0, 1.25, 2.7, 6.5, 10, 13.2, 15.2, 17.2, 19)))
