"""What the assessment asks of the other services."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.core.domain.contracts import Sex
from services.core.domain.gates import Abstention
from services.core.domain.preprocess import Image, Mask, Square
from services.core.domain.reading import Activation, Age, Classes, ModelVersion
from services.core.runtime.deadlines import Deadline


@dataclass(frozen=True, slots=True)
class Found:
    """The hand on the frame (h, w); no crop where there is none."""

    mask: Mask
    crop: Square | None
    foreground_fraction: float
    abstention: Abstention | None
    model: ModelVersion
    release: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """The hand that is read (S, S), in [0, 1] (of a negative its positive), and the square of the frame it shows."""

    hand: Image
    crop: Square
    enhanced: bool
    negative: bool
    model: ModelVersion


@dataclass(frozen=True, slots=True)
class Answer:
    """An age, or classes, and where that came from."""

    value: Age | Classes
    activation: Activation


@dataclass(frozen=True, slots=True)
class Read:
    """An answer or an abstention; the ungated age where it was asked for; by how many quarters the hand was turned."""

    answer: Answer | None
    abstention: Abstention | None
    ungated_age_months: float | None
    quarter_turns: int
    model: ModelVersion


class Stages(Protocol):
    """The model services. Every method raises the tree of `services.core.errors` and ends by the deadline."""

    async def segment(self, frame: Image, *, release: str, deadline: Deadline) -> Found:
        """Find the hand in a frame (h, w); an empty release is answered by the current one, and named."""
        ...

    async def enhance(self, frame: Image, mask: Mask, *, release: str, deadline: Deadline) -> Prepared:
        """Prepare the hand inside the mask (h, w)."""
        ...

    async def read(self, hand: Image, *, sex: Sex, ungated: bool, release: str, deadline: Deadline) -> Read:
        """Read a prepared hand (S, S)."""
        ...

    async def explain(
        self, pixels: NDArray[np.uint8], crop: Square, activation: Activation, *, release: str, deadline: Deadline
    ) -> bytes:
        """The activation over a radiograph (H, W) as a colour PNG; `crop` is in its pixels."""
        ...
