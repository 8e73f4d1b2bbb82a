"""Compares schedules of transfer learning at equal cost: `python -m training.jobs.study --config FILE`.

The paper's Figures 11 and 12 and the ablation of Tables 1 and 2: every arm (what is seen, and how it is unfrozen) for
every cohort and seed, at equal numbers of images seen. Each run is a unit of its own; the report is built from those
that are complete.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from services.core.domain.contracts import SEX_ORDER
from training.data.radiographs import Radiograph
from training.data.rows import Rows
from training.enhancement.clahe import equalised
from training.evaluation.study import ERRORS, Arm, Outcome, write_report
from training.jobs.command import JobConfig, command
from training.jobs.source import Source, examples, network
from training.run.checkpoint import Checkpoint
from training.run.exits import BadConfigurationError
from training.run.journal import Journal
from training.run.steps import run_steps
from training.transfer.devices import AskedPrecision, choose_device
from training.transfer.images import Examples
from training.transfer.learner import Fitting, StagedLearner
from training.transfer.stages import Stage, total_images
from training.transfer.target import AgeTarget

LOG = logging.getLogger(__name__)
REPORTED: Final = "calibration"
"""The part that the figures are of: nothing is chosen by it here, and the test part stays unread."""

Cohort = Literal["all", "male", "female", "sex"]


class StudyConfig(JobConfig):
    """Everything the study depends on.

    Cohort `all` never learns of the sex, `male` and `female` are networks of their own, `sex` is one network with a row
    of its head for each. `validation_images` of the validation part choose among states of the weights.
    `runs_a_start` bounds what one start of the job does.
    """

    source: Source
    backbone: str
    start_from: Path | None
    schedules: dict[str, list[Stage]]
    arms: list[Arm]
    cohorts: list[Cohort]
    seeds: list[int]
    fitting: Fitting
    validation_images: int = Field(ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: AskedPrecision = "auto"
    kept: Path
    out: Path
    runs_a_start: int | None = None

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
    """Do the runs that are missing, then write the report; also after each cohort, so that it can be read early."""
    cv2.setNumThreads(1)
    planned = list(units(config))
    missing = [unit for unit in planned if not (config.out / "runs" / unit.name / ERRORS).exists()]
    radiographs = config.source.dataset.read()
    _check_made_with(config, planned)
    for unit in missing[: config.runs_a_start]:
        LOG.info("%s, %d of %d", unit.name, planned.index(unit) + 1, len(planned))
        _run(config, unit, config.out / "runs" / unit.name, radiographs)
        if unit.arm == config.arms[-1]:
            report(config)
    report(config)


def report(config: StudyConfig) -> None:
    """Build the report from the runs that are complete."""
    outcomes = [
        Outcome.read(config.out / "runs" / unit.name, unit.arm, unit.cohort, unit.seed)
        for unit in units(config)
        if (config.out / "runs" / unit.name / ERRORS).exists()
    ]
    if outcomes:
        write_report(
            config.out, outcomes, planned=len(list(units(config))), images_a_run=total_images(_any_schedule(config)),
            images_a_step=config.fitting.batch_size, part=REPORTED,
        )  # fmt: skip


def _any_schedule(config: StudyConfig) -> Sequence[Stage]:
    return next(iter(config.schedules.values()))


def _run(config: StudyConfig, unit: Unit, folder: Path, radiographs: Sequence[Radiograph]) -> None:
    """One run: trained or gone on with, then its readings of the part that is reported."""
    source = config.source.model_copy(update={"images": unit.arm.images})
    parts = {
        part: _cohort(source, unit, [radiograph for radiograph in radiographs if radiograph.part == part])
        for part in ("train", "validation", REPORTED)
    }
    order = np.random.default_rng(0).permutation(len(parts["validation"].rows))[: config.validation_images]
    fitting = replace(config.fitting, seed=unit.seed)
    stages = config.schedules[unit.arm.schedule]
    learning = StagedLearner(
        network(config.backbone, config.start_from, unit.target, stages, seed=unit.seed),
        train=parts["train"],
        validation=parts["validation"].take(order),
        target=unit.target,
        stages=stages,
        fitting=fitting,
        device=choose_device(precision=config.precision, kind=config.device),
        cache=config.kept,
    )
    steps = total_images(stages) // fitting.batch_size
    with Journal(folder, title=unit.name, total=steps) as journal:
        checkpoint = Checkpoint(folder / "last.pt")
        run_steps(
            learning, steps=steps, checkpoint=checkpoint, journal=journal, log_every=10,
            after=lambda _: learning.finished,
        )  # fmt: skip
    reported = parts[REPORTED]
    ages = unit.target.months(learning.predict(reported), reported.sexes)
    ids = np.array(Rows.read(source.hands).ids)[reported.rows]
    made_with = np.array(_made_with(config, unit))
    _save(folder / ERRORS, ids=ids, errors=(ages - reported.labels).astype(np.float32), made_with=made_with)
    (folder / "last.pt").unlink()


def _made_with(config: StudyConfig, unit: Unit) -> str:
    """SHA-256 of all that a run depends on beside the code, the labels and the weights to start from."""
    fields = {"backbone", "fitting", "validation_images", "precision"}
    stages = config.model_dump(mode="json", include={"schedules"})["schedules"][unit.arm.schedule]
    whole = [config.model_dump(mode="json", include=fields), stages, asdict(unit), config.source.side_px,
             Rows.read(config.source.hands).made_by]  # fmt: skip
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _check_made_with(config: StudyConfig, planned: Sequence[Unit]) -> None:
    """Raise BadConfigurationError where a complete run was made otherwise: the two are not to be compared."""
    for unit in planned:
        path = config.out / "runs" / unit.name / ERRORS
        if path.exists() and str(np.load(path)["made_with"]) != _made_with(config, unit):
            raise BadConfigurationError(
                f"{path} was made with another configuration or on other hands; delete it or name another folder"
            )


def _cohort(source: Source, unit: Unit, radiographs: Sequence[Radiograph]) -> Examples:
    """Examples of the cohort's radiographs, changed as the arm wants it."""
    found = examples(source, radiographs, unit.target)
    if unit.cohort in SEX_ORDER:
        found = found.take(np.flatnonzero(found.sexes == SEX_ORDER.index(unit.cohort)))
    return replace(found, change=equalised if unit.arm.clahe else None)


def _save(path: Path, **arrays: NDArray[np.generic]) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(path)


if __name__ == "__main__":
    command(StudyConfig, run, __doc__)
