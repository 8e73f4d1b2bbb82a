"""A release: the versions of all models, with the calibration and the thresholds that belong to them."""

from dataclasses import dataclass

from services.core.domain.contracts import Sex
from services.core.domain.gates import GateThresholds


@dataclass(frozen=True, slots=True)
class IntervalCell:
    """Split-conformal half width for one sex and one band of *predicted* age, [low_months, high_months)."""

    sex: Sex
    low_months: float
    high_months: float
    half_width_months: float
    calibration_images: int


@dataclass(frozen=True, slots=True)
class Release:
    """What one manifest `releases/ID.json` pins."""

    id: str
    models: dict[str, int]
    preprocessing_sha256: str
    interval_level: float
    interval_cells: tuple[IntervalCell, ...]
    gates: GateThresholds
    baseline_mae_months: float

    def interval(self, age_months: float, sex: Sex) -> tuple[float, float]:
        """The calibrated interval in months around a predicted age; its lower end is never below birth."""
        for cell in self.interval_cells:
            if cell.sex == sex and cell.low_months <= age_months < cell.high_months:
                return max(0.0, age_months - cell.half_width_months), age_months + cell.half_width_months
        raise LookupError(f"release {self.id} has no interval for {sex} at {age_months:.1f} months")
