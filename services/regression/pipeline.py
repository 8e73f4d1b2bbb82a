"""From a prepared hand to the bone age with its interval, or to the reason why there is none (paper 2.4)."""

from dataclasses import dataclass

import numpy as np

from services.core.domain.contracts import REGRESSOR, SEX_ORDER, Sex
from services.core.domain.gates import Abstention, check_interval, check_typicality
from services.core.domain.ports import Inference, Tensors
from services.core.domain.preprocess import HAND_PX, Image, crop_square, whole
from services.core.domain.reading import Activation, ModelVersion
from services.core.domain.release import Release
from services.core.errors import ModelContractError, ReleaseError
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers


@dataclass(frozen=True, slots=True)
class Reading:
    """An age in months with its interval and its activation; with an abstention it is the ungated number."""

    age_months: float
    low_months: float
    high_months: float
    activation: Activation
    abstention: Abstention | None
    model: ModelVersion


class RegressionPipeline:
    """Reads hands."""

    def __init__(self, inference: Inference, workers: Workers) -> None:
        self._inference = inference
        self._workers = workers

    async def read(self, hand: Image, *, sex: Sex, release: Release, deadline: Deadline) -> Reading:
        """Read a prepared hand (H, W) in [0, 1] as that of a child of `sex`."""
        model = ModelVersion(REGRESSOR, release.models[REGRESSOR])
        batch = await self._workers.run(prepare, hand)
        outputs = await self._inference.infer(model.name, model.version, {"hand": batch}, timeout_s=deadline.left_s())
        return conclude(outputs, sex, release, model)


def prepare(hand: Image) -> Image:
    """The regressor's input (1, 1, HAND_PX, HAND_PX): the hand padded to a square and resized, where it is not that."""
    if hand.shape != (HAND_PX, HAND_PX):
        hand = crop_square(hand, whole(hand), size_px=HAND_PX)
    return hand[None, None]


def conclude(outputs: Tensors, sex: Sex, release: Release, model: ModelVersion) -> Reading:
    """The reading for one sex from the network's outputs for all; no child is younger than 0 months."""
    row = SEX_ORDER.index(sex)
    raw_months = float(outputs["age_months"][0, row])
    if not np.isfinite(raw_months):
        raise ModelContractError(f"{model.name} version {model.version} gave an age that is not a number")
    age_months = max(0.0, raw_months)
    low_months, high_months = interval(release, age_months, sex)
    typicality = check_typicality(outputs["typicality"][0], release.gates)
    return Reading(
        age_months,
        low_months,
        high_months,
        Activation(outputs["activation"][0, row], float(outputs["bias_months"][0, row])),
        typicality or check_interval(low_months, high_months, release.gates),
        model,
    )


def interval(release: Release, age_months: float, sex: Sex) -> tuple[float, float]:
    """The release's calibrated interval. Raises ReleaseError where it covers no such age."""
    try:
        return release.interval(age_months, sex)
    except LookupError as error:
        raise ReleaseError(str(error)) from error
