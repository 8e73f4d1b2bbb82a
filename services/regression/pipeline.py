"""From a prepared hand to the bone age with its interval, or to the reason why there is none (paper 2.4).

A release may tell classes apart instead (the paper's framework is for both): then to the classes' probabilities.
"""

from dataclasses import dataclass

import numpy as np

from services.core.domain.contracts import SEX_ORDER, Sex
from services.core.domain.gates import Abstention, check_interval, check_typicality
from services.core.domain.ports import Inference, Tensors
from services.core.domain.preprocess import HAND_PX, Image, crop_square, whole
from services.core.domain.reading import (
    Activation,
    Age,
    Classes,
    ModelVersion,
    activation_of,
    class_probabilities,
)
from services.core.domain.release import Release
from services.core.errors import ModelContractError, ReleaseError
from services.core.runtime.deadlines import Deadline
from services.core.runtime.reading import read_upright
from services.core.runtime.workers import Workers


@dataclass(frozen=True, slots=True)
class Reading:
    """An age, or classes, and where that came from; with an abstention it is what the gates held back.

    `quarter_turns` is by how many, counterclockwise, the hand was turned to be read.
    """

    value: Age | Classes
    activation: Activation
    abstention: Abstention | None
    quarter_turns: int
    model: ModelVersion


class RegressionPipeline:
    """Reads hands."""

    def __init__(self, inference: Inference, workers: Workers) -> None:
        self._inference = inference
        self._workers = workers

    async def read(self, hand: Image, *, sex: Sex, release: Release, deadline: Deadline) -> Reading:
        """Read a prepared hand (H, W) in [0, 1] as that of a child of `sex`."""
        model = ModelVersion(release.reader, release.models[release.reader])
        batch = await self._workers.run(prepare, hand)
        outputs, turns = await read_upright(self._inference, model, batch, release.gates, deadline)
        return conclude(outputs, sex, release, model, turns)


def prepare(hand: Image) -> Image:
    """The regressor's input (1, 1, HAND_PX, HAND_PX): the hand padded to a square and resized, where it is not that."""
    if hand.shape != (HAND_PX, HAND_PX):
        hand = crop_square(hand, whole(hand), size_px=HAND_PX)
    return hand[None, None]


def conclude(outputs: Tensors, sex: Sex, release: Release, model: ModelVersion, quarter_turns: int = 0) -> Reading:
    """The reading for one sex from the network's outputs for all. Raises ModelContractError, ReleaseError."""
    atypical = check_typicality(outputs["typicality"][0], release.gates)
    activation = activation_of(outputs, release, sex)
    if release.classes:
        try:
            classes = class_probabilities(outputs["logits"][0], release.classes)
        except ValueError as error:
            raise ModelContractError(f"{model.name} version {model.version}: {error}") from None
        return Reading(classes, activation, atypical, quarter_turns, model)
    age = read_age(float(outputs["age_months"][0, SEX_ORDER.index(sex)]), sex, release, model)
    abstention = atypical or check_interval(age.low_months, age.high_months, release.gates)
    return Reading(age, activation, abstention, quarter_turns, model)


def read_age(raw_months: float, sex: Sex, release: Release, model: ModelVersion) -> Age:
    """The network's number with its interval; no child is younger than 0 months."""
    if not np.isfinite(raw_months):
        raise ModelContractError(f"{model.name} version {model.version} gave an age that is not a number")
    months = max(0.0, raw_months)
    return Age(months, *interval(release, months, sex))


def interval(release: Release, age_months: float, sex: Sex) -> tuple[float, float]:
    """The release's calibrated interval. Raises ReleaseError where it covers no such age."""
    try:
        return release.interval(age_months, sex)
    except LookupError as error:
        raise ReleaseError(str(error)) from error
