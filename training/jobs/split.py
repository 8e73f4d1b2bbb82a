"""Draws the parts of a data set, once: `python -m training.jobs.split --config FILE`.

Writes `id,part`, stratified by sex and by class or age band, all radiographs of a patient into one part. What is there
is never drawn again, since figures on a part that changed could not be compared; with `extend` radiographs that came
since are drawn too.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from services.core.domain.metrics import OLDEST_MONTHS
from training.data.radiographs import Dataset, image_files, natural, report_missing
from training.data.split import BAND_MONTHS, SHARES, Part, draw_split, read_ids, read_split
from training.data.tables import read_table
from training.evaluation.calibration import MINIMUM_IMAGES
from training.jobs.command import JobConfig, command
from training.run.exits import BadConfigurationError
from training.run.results import write_table

LOG = logging.getLogger(__name__)


class SplitConfig(JobConfig):
    """What is split into `dataset.split`, and how; the radiographs that `always_train` (CSV, id) names are in train.

    `patient_column` of the labels says whose radiograph it is; one that it says nothing of stands for itself. Labels
    are ages, unless `classes` has them.
    """

    dataset: Dataset
    shares: dict[Part, float] = Field(default_factory=lambda: dict(SHARES))
    patient_column: str | None = None
    classes: Annotated[list[str], Field(min_length=2)] | None = None
    band_months: float = Field(BAND_MONTHS, gt=0)
    always_train: Path | None = None
    extend: bool = False
    seed: int = 1

    @model_validator(mode="after")
    def _whole(self) -> "SplitConfig":
        if abs(sum(self.shares.values()) - 1) > 1e-6 or min(self.shares.values(), default=-1) < 0:
            raise ValueError(f"shares are at least 0 and 1 in all, not {self.shares}")
        return self

    def stratum(self, label: str, sex: str) -> tuple[str, str]:
        """Sex, and age band or class. Raises ValueError where the label is neither."""
        if self.classes is None:
            if (months := _months(label)) is None:
                raise ValueError(f"{label!r} is no age in months; where labels are classes, name them in classes")
            return sex, f"{months // self.band_months:.0f}"
        if label not in self.classes:
            raise ValueError(f"{label!r} is none of the classes {', '.join(self.classes)}")
        return sex, label


def run(config: SplitConfig) -> None:
    """Draw and write. Raises BadConfigurationError where there is a split already that is not to be extended."""
    target = config.dataset.split
    there = read_split(target) if target.exists() else {}
    if target.exists() and not config.extend:
        raise BadConfigurationError(f"{target} is there already, and is not drawn again; extend: true adds what is new")
    files, rows = image_files(config.dataset.images), config.dataset.rows()
    report_missing("have a label and no file", [id_ for id_ in rows if id_ not in files], of=len(rows))
    ids = sorted((id_ for id_ in rows if id_ in files), key=natural)
    if not ids:
        raise BadConfigurationError(f"{config.dataset.labels}: no row has a file in {config.dataset.images}")
    fixed = frozenset(read_ids(config.always_train) if config.always_train else [])
    # A patient whose older radiographs lie elsewhere by now stays in the part that these have.
    known = sorted((id_ for id_ in rows if id_ in files or id_ in there), key=natural)
    if config.patient_column is not None:
        unknown = [id_ for id_ in there if id_ not in rows]
        report_missing("have a part and no row, so that nobody knows whose they are", unknown, of=len(there))
    strata = _strata(config, rows, known)
    parts = there | _drawn(config, strata, _by_patient(config, known), fixed, there)
    late = [id_ for id_ in ids if id_ in fixed and parts[id_] != "train"]
    report_missing("should always train, and are of another part already", late, of=len(fixed))
    counts = Counter(parts.values())
    LOG.info("%s", ", ".join(f"{counts[part]} {part}" for part in SHARES))
    if counts["calibration"] < MINIMUM_IMAGES:
        LOG.warning("publishing needs %d radiographs in the calibration part: raise its share", MINIMUM_IMAGES)
    written = [*there, *(id_ for id_ in ids if id_ not in there)]
    write_table(target, ("id", "part"), ((id_, parts[id_]) for id_ in written))


def _months(label: str) -> float | None:
    try:
        months = float(label)
    except ValueError:
        return None
    return months if 0 <= months <= OLDEST_MONTHS else None


def _strata(config: SplitConfig, rows: Mapping[str, tuple[str, str]], ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    found = {}
    for id_ in ids:
        try:
            found[id_] = config.stratum(*rows[id_])
        except ValueError as error:
            raise BadConfigurationError(f"{config.dataset.labels}: {id_}: {error}") from error
    return found


def _by_patient(config: SplitConfig, ids: Collection[str]) -> list[list[str]]:
    """The radiographs of each patient."""
    if config.patient_column is None:
        return [[id_] for id_ in ids]
    column = config.dataset.id_column
    table = read_table(config.dataset.labels, [column, config.patient_column])
    named = {row[column]: row[config.patient_column].strip() for row in table}
    patients: dict[tuple[str, str], list[str]] = defaultdict(list)
    for id_ in ids:
        patients[("patient", named[id_]) if named[id_] else ("radiograph", id_)].append(id_)
    return list(patients.values())


def _drawn(
    config: SplitConfig,
    strata: Mapping[str, tuple[str, str]],
    patients: Iterable[list[str]],
    fixed: frozenset[str],
    there: Mapping[str, Part],
) -> dict[str, Part]:
    """The part of each radiograph that has none yet: that of its patient's others, or one that is drawn."""
    known: dict[str, Part] = {}
    counted: list[tuple[tuple[str, str], Part]] = []
    new: dict[str, list[str]] = {}
    for ids in patients:
        parts = {there[id_] for id_ in ids if id_ in there}
        if len(parts) > 1:
            raise BadConfigurationError(
                f"{config.dataset.split}: radiographs of one patient are in several parts: "
                + ", ".join(f"{id_} in {there[id_]}" for id_ in ids if id_ in there)
            )
        if parts:
            part = parts.pop()
            known |= dict.fromkeys(ids, part)
            counted.append((strata[ids[0]], part))
        else:
            new[ids[0]] = ids
    always = [first for first, ids in new.items() if fixed.intersection(ids)]
    drawn = draw_split(
        {first: strata[first] for first in new},
        always_train=always,
        seed=config.seed,
        shares=config.shares,
        there=Counter(counted),
    )
    return known | {id_: part for first, part in drawn.items() for id_ in new[first]}


if __name__ == "__main__":
    command(SplitConfig, run, __doc__)
