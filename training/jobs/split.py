"""Draws the parts of a data set, once: `python -m training.jobs.split --config FILE`.

Writes `id,part`, stratified by sex and by class or age band. What is there is never drawn again: figures on a part that
changed could not be compared.
"""

import csv
import logging
from collections import Counter
from pathlib import Path

from pydantic import Field, model_validator

from training.data.radiographs import Dataset, image_files, natural, report_missing
from training.data.split import BAND_MONTHS, SHARES, Part, draw_split, read_ids
from training.evaluation.calibration import MINIMUM_IMAGES
from training.jobs.command import JobConfig, command
from training.run.exits import BadConfigurationError

LOG = logging.getLogger(__name__)


class SplitConfig(JobConfig):
    """What is split into `dataset.split`, and how; the radiographs that `always_train` (CSV, id) names are in train."""

    dataset: Dataset
    shares: dict[Part, float] = Field(default_factory=lambda: dict(SHARES))
    band_months: float = Field(BAND_MONTHS, gt=0)
    always_train: Path | None = None
    seed: int = 1

    @model_validator(mode="after")
    def _whole(self) -> "SplitConfig":
        if abs(sum(self.shares.values()) - 1) > 1e-6 or min(self.shares.values(), default=-1) < 0:
            raise ValueError(f"shares are at least 0 and 1 in all, not {self.shares}")
        return self


def stratum(label: str, sex: str, band_months: float) -> tuple[str, str]:
    """Sex, and age band or class."""
    try:
        return sex, f"{float(label) // band_months:.0f}"
    except ValueError:
        return sex, label


def run(config: SplitConfig) -> None:
    """Draw and write. Raises BadConfigurationError where there is a split already."""
    target = config.dataset.split
    if target.exists():
        raise BadConfigurationError(f"{target} is there already, and is not drawn again")
    files, rows = image_files(config.dataset.images), config.dataset.rows()
    report_missing("have a label and no file", [id_ for id_ in rows if id_ not in files], of=len(rows))
    ids = sorted((id_ for id_ in rows if id_ in files), key=natural)
    if not ids:
        raise BadConfigurationError(f"{config.dataset.labels}: no row has a file in {config.dataset.images}")
    fixed = read_ids(config.always_train) if config.always_train else []
    strata = {id_: stratum(*rows[id_], config.band_months) for id_ in ids}
    parts = draw_split(strata, always_train=fixed, seed=config.seed, shares=config.shares)
    counts = Counter(parts.values())
    LOG.info("%s", ", ".join(f"{counts[part]} {part}" for part in SHARES))
    if counts["calibration"] < MINIMUM_IMAGES:
        LOG.warning("publishing needs %d radiographs in the calibration part: raise its share", MINIMUM_IMAGES)
    partial = target.with_name(target.name + ".partial")
    with partial.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "part"), *((id_, parts[id_]) for id_ in ids)])
    partial.replace(target)


if __name__ == "__main__":
    command(SplitConfig, run, __doc__)
