"""What one phantom is drawn from: its parameters, and random draws of them from named ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from training.data.phantom.maturity import Sex

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PhantomParameters:
    """One drawn radiograph of a hand: the child, the anatomy's variation, the pose and the exposure.

    Angles in degrees. `size` and the factors named after tissues multiply what is normal for age and sex (1 = normal).
    `shaft_width`, `soft_tissue`, `joint_space` and `cortex` vary the build, `fill` is the part of the canvas the hand
    takes, `forearm` the part of the height below the wrist, `aspect` height over width. `contrast`, `air`, `bone`,
    `gamma` and `sharpen` shape the film's response; `noise` is the deviation of its grain and `blur` its unsharpness
    in millimetres. `frame` draws the edge of the collimated field with its brightness, 0 leaves it out.
    """

    age_months: float
    sex: Sex
    seed: int
    size: float
    shaft_width: float
    soft_tissue: float
    joint_space: float
    cortex: float
    spread: float
    thumb_deg: float
    forearm_deg: float
    rotation_deg: float
    right_hand: bool
    aspect: float
    fill: float
    forearm: float
    bone: float
    air: float
    contrast: float
    gamma: float
    sharpen: float
    noise: float
    blur_mm: float
    frame: float
    frame_margin: float
    letter: str


@dataclass(frozen=True, slots=True)
class Ranges:
    """Where parameters are drawn from: seeds in [first_seed, last_seed), uniform intervals, letters."""

    first_seed: int
    last_seed: int
    intervals: Mapping[str, Interval]
    letters: tuple[str, ...]


_COMMON: Final[dict[str, Interval]] = {
    "size": (0.94, 1.06),
    "shaft_width": (0.95, 1.05),
    "soft_tissue": (0.93, 1.1),
    "joint_space": (0.85, 1.15),
    "thumb_deg": (-7, 9),
    "aspect": (1.28, 1.42),
    "fill": (0.84, 0.95),
    "forearm": (0.12, 0.24),
    "bone": (0.9, 1.12),
    "air": (0.0, 0.25),
    "contrast": (0.75, 1.1),
    "gamma": (0.85, 1.2),
    "frame": (0.0, 0.9),
    "frame_margin": (0.01, 0.05),
    "spread": (0.0, 0.55),
    "rotation_deg": (-8.0, 2.0),
    "forearm_deg": (-8.0, 2.0),
}

TRAINING_RANGES: Final = Ranges(
    first_seed=0,
    last_seed=1_000_000,
    intervals=MappingProxyType(
        _COMMON
        | {
            "cortex": (0.85, 1.0),
            "sharpen": (0.0, 0.8),
            "noise": (0.012, 0.03),
            "blur_mm": (0.05, 0.18),
        }
    ),
    letters=("L", "R", "LT", "RT"),
)
"""What phantoms for training are drawn from."""

DEMO_RANGES: Final = Ranges(
    first_seed=2_000_000,
    last_seed=3_000_000,
    intervals=MappingProxyType(
        _COMMON
        | {
            "cortex": (1.02, 1.15),
            "sharpen": (0.85, 1.3),
            "noise": (0.004, 0.011),
            "blur_mm": (0.02, 0.045),
        }
    ),
    letters=("L",),
)
"""What the samples are drawn from: no seed or film of `TRAINING_RANGES` can occur here."""


def draw_parameters(
    rng: np.random.Generator, *, age_months: float, sex: Sex, ranges: Ranges = TRAINING_RANGES
) -> PhantomParameters:
    """Draw everything but age (months) and sex uniformly from `ranges`."""
    values = {name: float(rng.uniform(*interval)) for name, interval in sorted(ranges.intervals.items())}
    right_hand = bool(rng.random() < 0.1)
    letters = [letter for letter in ranges.letters if letter.startswith("R") == right_hand] or list(ranges.letters)
    return PhantomParameters(
        age_months=age_months,
        sex=sex,
        seed=int(rng.integers(ranges.first_seed, ranges.last_seed)),
        right_hand=right_hand,
        letter=letters[int(rng.integers(len(letters)))],
        **values,
    )
