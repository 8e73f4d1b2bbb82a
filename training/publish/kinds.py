"""What differs between a release that reads ages and one that tells classes apart: model, figures and calibration."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from services.core.domain.contracts import CLASSIFIER, REGRESSOR
from services.core.domain.metrics import area_under_roc, bootstrap_interval, share
from services.core.domain.reading import class_probabilities, softmax
from services.core.domain.release import ClassCalibration, Release
from training.evaluation.calibration import band_scales, fit_temperature, interval_cells, set_probability
from training.evaluation.measure import age_metrics, interval_metrics
from training.models.regressor import AGE_MEAN_MONTHS, AGE_SCALE_MONTHS
from training.publish.plots import draw_ages, draw_classes
from training.transfer.target import AgeTarget, CategoryTarget


@dataclass(frozen=True, slots=True)
class Measured:
    """What a reader said of a part: outputs (N, n), and what is true: labels (N,) and sexes (N,)."""

    outputs: NDArray[np.float32]
    labels: NDArray[np.float32]
    sexes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kind(ABC):
    """One kind of release: its `model`'s outputs are what the head gives times `scale` plus `offset`.

    The first output of the model's contract is what is measured.
    """

    model: str
    scale: float
    offset: float

    @abstractmethod
    def figures(self, measured: Measured) -> dict[str, Any]:
        """Figures of one part, for the card."""

    @abstractmethod
    def calibration(self, validation: Measured, calibration: Measured, test: Measured) -> dict[str, Any]:
        """Fields of the release: how sure its answers are."""

    @abstractmethod
    def draw(self, measured: Measured, figures: Mapping[str, Mapping[str, Any]], release: Release, path: Path) -> None:
        """A picture of the test part, `measured`, and of the figures of all. Raises StoreUnwritableError."""

    @abstractmethod
    def coverage(self, measured: Measured, release: Release) -> dict[str, Any]:
        """How often what the release is sure of holds on one part, for the card."""


class AgeKind(Kind):
    """Ages in months by sex, with intervals."""

    @override
    def figures(self, measured: Measured) -> dict[str, Any]:
        return age_metrics(measured.outputs, measured.labels, measured.sexes)

    @override
    def calibration(self, validation: Measured, calibration: Measured, test: Measured) -> dict[str, Any]:
        scales = band_scales(*_doubles(validation))
        return {
            "interval_cells": interval_cells(*_doubles(calibration), scales),
            "baseline_mae_months": float(self.figures(test)["mae_months"]),
        }

    @override
    def draw(self, measured: Measured, figures: Mapping[str, Mapping[str, Any]], release: Release, path: Path) -> None:
        ages = measured.outputs[np.arange(len(measured.labels)), measured.sexes]
        draw_ages(ages, measured.labels, figures, path, release=release.id)

    @override
    def coverage(self, measured: Measured, release: Release) -> dict[str, Any]:
        return interval_metrics(measured.outputs, measured.labels, measured.sexes, release)


@dataclass(frozen=True, slots=True)
class ClassKind(Kind):
    """Classes with calibrated probabilities, and the set of those that are likely enough."""

    classes: tuple[str, ...]

    @override
    def figures(self, measured: Measured) -> dict[str, Any]:
        hits = (measured.outputs.argmax(axis=1) == measured.labels).astype(np.float64)
        result: dict[str, Any] = {
            "n": len(hits),
            "accuracy": float(hits.mean()),
            "accuracy_ci95": list(bootstrap_interval(hits, lambda v: float(v.mean()))),
            "by_class": {name: int((measured.labels == index).sum()) for index, name in enumerate(self.classes)},
        }
        if len(self.classes) == 2:
            scored = np.stack([measured.outputs[:, 1] - measured.outputs[:, 0], measured.labels], axis=1)
            result["auc"] = area_under_roc(scored[:, 0], scored[:, 1] > 0)
            draw = scored.astype(np.float64)
            result["auc_ci95"] = list(bootstrap_interval(draw, lambda v: area_under_roc(v[:, 0], v[:, 1] > 0)))
        return result

    @override
    def calibration(self, validation: Measured, calibration: Measured, test: Measured) -> dict[str, Any]:
        del test
        temperature = fit_temperature(validation.outputs, validation.labels)
        given = softmax(calibration.outputs, temperature)
        least = set_probability(given[np.arange(len(given)), calibration.labels.astype(np.intp)])
        return {"classes": ClassCalibration(self.classes, temperature, least)}

    @override
    def draw(self, measured: Measured, figures: Mapping[str, Mapping[str, Any]], release: Release, path: Path) -> None:
        assert release.classes is not None
        given = softmax(measured.outputs, release.classes.temperature)
        labels, accuracy = measured.labels.astype(np.intp), figures["test"]["accuracy"]
        draw_classes(given, labels, self.classes, accuracy, path, release=release.id)

    @override
    def coverage(self, measured: Measured, release: Release) -> dict[str, Any]:
        assert release.classes is not None
        sets = np.array([[c.in_set for c in class_probabilities(row, release.classes)] for row in measured.outputs])
        held = share(sets[np.arange(len(sets)), measured.labels.astype(np.intp)].astype(np.float64))
        return {
            "release": release.id,
            "level": release.interval_level,
            "n": held.n,
            "coverage": held.value,
            "coverage_ci95": [held.low, held.high],
            "classes_in_set": float(sets.sum(axis=1).mean()),
        }


def kind_of(target: AgeTarget | CategoryTarget) -> Kind:
    """The kind of release that a target makes."""
    if isinstance(target, CategoryTarget):
        return ClassKind(CLASSIFIER, 1.0, 0.0, tuple(target.classes))
    return AgeKind(REGRESSOR, AGE_SCALE_MONTHS, AGE_MEAN_MONTHS)


def _doubles(measured: Measured) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    return measured.outputs.astype(np.float64), measured.labels.astype(np.float64), measured.sexes
