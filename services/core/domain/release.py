"""A release: the versions of all models, with the calibration and the thresholds that belong to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.core.domain.contracts import CLASSIFIER, REGRESSOR, Sex
from services.core.domain.gates import GateThresholds

WEIGHTS: Final = "model.onnx"
CARD: Final = "card.json"
"""The files of a version, NAME/VERSION/FILE in a repository."""


@dataclass(frozen=True, slots=True)
class IntervalCell:
    """Split-conformal half width for one sex and one band of *predicted* age, [low_months, high_months)."""

    sex: Sex
    low_months: float
    high_months: float
    half_width_months: float
    calibration_images: int


@dataclass(frozen=True, slots=True)
class ClassCalibration:
    """The classes that a release tells apart, in the order of its network's outputs.

    Logits are divided by `temperature` (Guo C et al., ICML 2017); classes of at least `set_probability` make up the set
    that holds the true one at the release's level (split conformal: Sadinle M et al., JASA 2019;114(525):223-234).
    """

    names: tuple[str, ...]
    temperature: float
    set_probability: float


@dataclass(frozen=True, slots=True)
class Release:
    """What one manifest `releases/ID.json` pins; it has interval cells and a baseline, or classes.

    `files` holds the SHA-256 of every file of its versions by its place in the repository, so that who trusts the
    manifest can trust them; releases from before that have none.
    """

    id: str
    models: dict[str, int]
    preprocessing_sha256: str
    interval_level: float
    gates: GateThresholds
    interval_cells: tuple[IntervalCell, ...] = ()
    baseline_mae_months: float | None = None
    classes: ClassCalibration | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """Places in a repository of every file of its versions."""
        return tuple(f"{model}/{version}/{name}" for model, version in self.models.items() for name in (WEIGHTS, CARD))

    @property
    def reader(self) -> str:
        """The model that reads the prepared hand."""
        return CLASSIFIER if self.classes else REGRESSOR

    def interval(self, age_months: float, sex: Sex) -> tuple[float, float]:
        """The calibrated interval in months around a predicted age; its lower end is never below birth."""
        for cell in self.interval_cells:
            if cell.sex == sex and cell.low_months <= age_months < cell.high_months:
                return max(0.0, age_months - cell.half_width_months), age_months + cell.half_width_months
        raise LookupError(f"release {self.id} has no interval for {sex} at {age_months:.1f} months")
