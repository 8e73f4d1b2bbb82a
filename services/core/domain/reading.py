"""What is read from a prepared hand: an age or classes, where in it that came from, and the model that answered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.domain.contracts import SEX_ORDER, Sex
from services.core.domain.ports import Tensors
from services.core.domain.release import ClassCalibration, Release


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model of the repository and the version of it that answered."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Activation:
    """Contributions in months of the places of a grid (h, w); their mean plus `bias_months` is the network's output.

    Of a release that tells classes apart, contributions to the logit of the most probable class.
    """

    values_months: NDArray[np.float32]
    bias_months: float


@dataclass(frozen=True, slots=True)
class Age:
    """An age in months with its calibrated interval."""

    months: float
    low_months: float
    high_months: float


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One class, its calibrated probability, and whether it is in the set that holds the true one at the level."""

    name: str
    probability: float
    in_set: bool


Classes = tuple[ClassProbability, ...]


def activation_of(outputs: Tensors, release: Release, sex: Sex) -> Activation:
    """The grid behind a reading, from a reader's outputs (1, ...): that of the sex, or of the most probable class."""
    if release.classes:
        row = int(np.argmax(outputs["logits"][0]))
        return Activation(outputs["activation"][0, row], float(outputs["bias"][0, row]))
    row = SEX_ORDER.index(sex)
    return Activation(outputs["activation"][0, row], float(outputs["bias_months"][0, row]))


def class_probabilities(logits: NDArray[np.float32], calibration: ClassCalibration) -> Classes:
    """Probabilities of all classes from logits (K,); the most probable class is always in the set.

    Raises ValueError where there are other than K classes, or a logit is not finite.
    """
    if logits.shape != (len(calibration.names),) or not np.isfinite(logits).all():
        raise ValueError(f"{len(calibration.names)} finite logits were expected")
    probabilities = softmax(logits, calibration.temperature)
    in_set = (probabilities >= calibration.set_probability) | (probabilities == probabilities.max())
    return tuple(map(ClassProbability, calibration.names, probabilities.tolist(), in_set.tolist()))


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities (..., K) of logits (..., K) divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float64)
