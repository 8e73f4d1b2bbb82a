"""Compares schedules of transfer learning at equal cost: `python -m training.jobs.study --config FILE`.

The paper's Figures 11 and 12 and its Tables 1 and 2: every arm (what is seen, and how it is unfrozen) for every cohort
and seed, at equal numbers of images seen. Each run is a unit of its own; the report is built from those that are
complete. Several processes may work on one study: each takes what no other has begun.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from services.core.domain.contracts import SEX_ORDER
from training.data.radiographs import Dataset, Radiograph
from training.data.rows import Rows
from training.data.scenes import drawing
from training.enhancement.clahe import equalised
from training.evaluation.study import ERRORS, Arm, Outcome, Plan
from training.evaluation.study_report import write_report
from training.jobs.begun import STATE
from training.jobs.command import JobConfig, command
from training.jobs.source import Hub, Source, examples, network, with_bad_files
from training.publish.digests import digest
from training.run.checkpoint import Checkpoint
from training.run.claim import claimed
from training.run.exits import BadConfigurationError
from training.run.journal import Journal
from training.run.room import whole
from training.run.spent import SPENT, Spent
from training.run.steps import run_steps
from training.transfer.devices import AskedPrecision, Device, choose_device
from training.transfer.images import BAD_FILES_MADE_WITH, Examples
from training.transfer.learner import Fitting, StagedLearner
from training.transfer.stages import Stage, total_images
from training.transfer.target import AgeTarget

LOG = logging.getLogger(__name__)
LOG_EVERY: Final = 5
COLUMNS: Final = [field.default for field in fields(Dataset) if field.name.endswith("_column")]
"""The challenge's own, of which a run's `made_with` says nothing."""
MADE_WITH: Final = "made_with"
"""Beside the state of a run that is not complete: what it was begun with, as in the results of one that is."""

Cohort = Literal["all", "male", "female", "sex"]


class StudyConfig(JobConfig):
    """Everything the study depends on.

    Cohort `all` never learns of the sex, `male` and `female` are networks of their own, `sex` is one network with a row
    of its head for each. `validation_images` of the validation part choose among states of the weights. `reported` is
    the part that the figures are of: the calibration part, by which nothing is chosen (the test part stays unread), or,
    to choose a schedule by, those of the validation part that choose nothing else.
    `runs_a_start` bounds what one start of the job does. `budget_cpu_hours` is what the report holds the time against.
    """

    source: Source
    backbone: str
    start_from: Hub | Path | None
    schedules: dict[str, list[Stage]]
    arms: list[Arm]
    cohorts: list[Cohort]
    seeds: list[int]
    fitting: Fitting
    validation_images: int = Field(ge=1)
    reported: Literal["calibration", "validation"] = "calibration"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: AskedPrecision = "auto"
    kept: Path
    out: Path
    runs_a_start: int | None = None
    budget_cpu_hours: float = Field(12, gt=0)

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        """Every arm has its schedule, and all see the same number of images."""
        if absent := [arm.name for arm in self.arms if arm.schedule not in self.schedules]:
            raise ValueError(f"arms {absent} name no schedule that is there")
        totals = {name: total_images(stages) for name, stages in self.schedules.items()}
        if len(set(totals.values())) != 1:
            raise ValueError(f"schedules see different numbers of images: {totals}")
        return self


@dataclass(frozen=True, slots=True)
class Unit:
    """One run of the study."""

    arm: Arm
    cohort: Cohort
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm.name}-{self.cohort}-{self.seed}"

    @property
    def target(self) -> AgeTarget:
        """What it learns."""
        return AgeTarget(unknown_share=0.0 if self.cohort == "sex" else 1.0)


def units(config: StudyConfig) -> Iterator[Unit]:
    """All runs, seed by seed, so that a study that is not complete yet is balanced."""
    for seed in config.seeds:
        for cohort in config.cohorts:
            for arm in config.arms:
                yield Unit(arm, cohort, seed)


def run(config: StudyConfig) -> None:
    """Do the runs that are missing and nobody else does; the report is written after each."""
    cv2.setNumThreads(1)
    device = choose_device(precision=config.precision, kind=config.device)
    planned = list(units(config))
    radiographs = config.source.dataset.read()
    _check_made_with(config, planned, device)
    done = 0
    for index, unit in enumerate(planned):
        if done == config.runs_a_start:
            break
        folder = config.out / "runs" / unit.name
        with claimed(folder) as ours:
            if not ours or (folder / ERRORS).exists():
                continue
            LOG.info("%s, %d of %d", unit.name, index + 1, len(planned))
            _run(config, unit, folder, radiographs, device)
        done += 1
        report(config)
    report(config)


def report(config: StudyConfig) -> None:
    """Build the report from the runs that are complete."""
    planned = list(units(config))
    outcomes = [
        Outcome.read(config.out / "runs" / unit.name, unit.arm, unit.cohort, unit.seed)
        for unit in planned
        if (config.out / "runs" / unit.name / ERRORS).exists()
    ]
    images = total_images(_any_schedule(config))
    if outcomes:
        with claimed(config.out, wait=True):
            plan = Plan(len(planned), images, config.fitting.batch_size, config.reported, config.budget_cpu_hours)
            write_report(config.out, outcomes, plan)


def _any_schedule(config: StudyConfig) -> Sequence[Stage]:
    return next(iter(config.schedules.values()))


def _run(config: StudyConfig, unit: Unit, folder: Path, radiographs: Sequence[Radiograph], device: Device) -> None:
    """One run: trained or gone on with, then its readings of the part that is reported."""
    source = config.source.model_copy(update={"images": unit.arm.images})
    parts = {
        part: _cohort(source, unit, [radiograph for radiograph in radiographs if radiograph.part == part])
        for part in ("train", "validation", config.reported)
    }
    order = np.random.default_rng(0).permutation(len(parts["validation"].rows))
    chooses, others = order[: config.validation_images], order[config.validation_images :]
    reported = parts[config.reported].take(others) if config.reported == "validation" else parts[config.reported]
    if not len(reported):
        raise BadConfigurationError(f"{unit.name}: the {config.reported} part leaves no radiograph to report on")
    fitting = replace(config.fitting, seed=unit.seed)
    stages = config.schedules[unit.arm.schedule]
    train = with_bad_files(source, parts["train"])
    learning = StagedLearner(
        network(config.backbone, config.start_from, unit.target, seed=unit.seed, images=train),
        train=train,
        validation=parts["validation"].take(chooses),
        target=unit.target,
        stages=stages,
        fitting=fitting,
        device=device,
        cache=config.kept,
    )
    steps = total_images(stages) // fitting.batch_size
    spent, made_with = Spent(folder), _made_with(config, unit, device)
    with whole(folder / MADE_WITH) as file:
        file.write(f"{made_with}\n".encode())

    def over(step: int) -> bool:
        if step % LOG_EVERY == 0:
            spent.save()
        return learning.finished

    with Journal(folder, title=unit.name, total=steps) as journal:
        checkpoint = Checkpoint(folder / STATE)
        run_steps(learning, steps=steps, checkpoint=checkpoint, journal=journal, log_every=LOG_EVERY, after=over)
    ages = unit.target.months(learning.predict(reported), reported.sexes)
    with whole(folder / ERRORS) as file:
        np.savez_compressed(
            file,
            ids=np.array(Rows.read(source.hands).ids)[reported.rows],
            errors=(ages - reported.labels).astype(np.float32),
            trained_on=len(parts["train"]),
            cpu_seconds=round(spent.seconds),
            made_with=made_with,
        )
    for name in (STATE, MADE_WITH, SPENT):
        (folder / name).unlink(missing_ok=True)


def _made_with(config: StudyConfig, unit: Unit, device: Device) -> str:
    """SHA-256 of all that a run depends on beside the code, and of what that draws."""
    settings = {"backbone", "fitting", "validation_images", "reported"}
    stages = config.model_dump(mode="json", include={"schedules"})["schedules"][unit.arm.schedule]
    dataset, start = config.source.dataset, config.start_from
    columns = [dataset.id_column, dataset.label_column, dataset.sex_column]
    files = [dataset.labels, dataset.split, *([start] if isinstance(start, Path) else [])]
    whole = [config.model_dump(mode="json", include=settings), stages, asdict(unit), config.source.side_px,
             device.precision, *_hands(config), start is None, drawing(), *map(_digest, files),
             *([] if columns == COLUMNS else columns)]  # fmt: skip
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _hands(config: StudyConfig) -> list[str]:
    """Which hands there are, what they were made of and with, and the same of those from bad files if there are any."""
    good, bad_files = Rows.read(config.source.hands), config.source.bad_files
    if bad_files is None:
        return [good.digest(good.ids)]
    bad = Rows.read(bad_files)
    return [good.digest(good.ids), bad.digest(bad.ids), BAD_FILES_MADE_WITH]


@cache
def _digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise BadConfigurationError(str(error)) from error


def _check_made_with(config: StudyConfig, planned: Sequence[Unit], device: Device) -> None:
    """Raise BadConfigurationError where a run was made, or begun, otherwise: the two are not to be compared."""
    for unit in planned:
        folder = config.out / "runs" / unit.name
        found, path = None, folder / ERRORS
        if path.exists():
            found = str(np.load(path)["made_with"])
        elif (path := folder / STATE).exists():
            found = (folder / MADE_WITH).read_text().strip() if (folder / MADE_WITH).exists() else ""
        if found not in (None, _made_with(config, unit, device)):
            raise BadConfigurationError(
                f"{path} was made with another configuration, in another precision, from other weights or on other "
                "hands, labels or draws; delete it or name another folder"
            )


def _cohort(source: Source, unit: Unit, radiographs: Sequence[Radiograph]) -> Examples:
    """Examples of the cohort's radiographs, changed as the arm wants it."""
    found = examples(source, radiographs, unit.target)
    if unit.cohort in SEX_ORDER:
        found = found.take(np.flatnonzero(found.sexes == SEX_ORDER.index(unit.cohort)))
    return replace(found, change=equalised if unit.arm.clahe else None)


if __name__ == "__main__":
    command(StudyConfig, run, __doc__)
