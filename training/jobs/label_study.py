"""How many outlines each strategy of active learning needs: `python -m training.jobs.label_study --config FILE`.

Every strategy for every seed on radiographs whose outlines are all known, and on phantoms; then the paper's own
comparison, a U-Net with all labels. Each run is a unit of its own; the report is built from those that are complete.
Several processes may work on one study: each takes what no other has begun.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import cv2
import numpy as np
from pydantic import Field

from training.active_learning.learner import Outlines
from training.active_learning.rounds import Plan
from training.active_learning.sight import network_input, square_mask
from training.active_learning.simulation import RESULT, Architecture, World, simulate, with_all_labels
from training.active_learning.strategies import Name
from training.data.masks import read_masks
from training.data.phantom import draw_parameters, render
from training.data.radiographs import Dataset
from training.data.split import MASK_TEST_CSV, read_ids
from training.evaluation.label_study import Curve, write_report
from training.jobs.command import JobConfig, command
from training.run.exits import BadConfigurationError

LOG = logging.getLogger(__name__)
COMMITTEES: Final = ("committee", "vote_entropy")
ALL_LABELS: Final[dict[str, Architecture]] = {"FC-DenseNet, all labels": "fcdensenet", "U-Net, all labels": "unet"}


@dataclass(frozen=True, slots=True)
class Radiographs:
    """Outlined radiographs: `masks` holds the folders image and mask; `test` (CSV, id) is only measured."""

    dataset: Dataset
    masks: Path
    test: Path = MASK_TEST_CSV
    kind: Literal["radiographs"] = "radiographs"

    def pairs(self, size_px: int) -> tuple[list[tuple[Any, Any]], Outlines]:
        """Frames and masks of what may be asked or selects, and the test outlines."""
        held = set(read_ids(self.test))
        outlined = read_masks(self.masks, self.dataset.true_shapes())
        if missing := held - {pair.id for pair in outlined}:
            raise BadConfigurationError(f"{self.masks} has no outline of {', '.join(sorted(missing)[:5])}")
        free = [(pair.frame, pair.mask) for pair in outlined if pair.id not in held]
        return free, _outlines([(pair.frame, pair.mask) for pair in outlined if pair.id in held], size_px)


@dataclass(frozen=True, slots=True)
class Phantoms:
    """Drawn hands, with their exact outlines."""

    count: int
    test: int
    height_px: int = 320
    kind: Literal["phantoms"] = "phantoms"

    def pairs(self, size_px: int) -> tuple[list[tuple[Any, Any]], Outlines]:
        """As of radiographs."""
        rng = np.random.default_rng(0)
        drawn = []
        for index in range(self.count + self.test):
            sex: Literal["male", "female"] = "male" if index % 2 else "female"
            parameters = draw_parameters(rng, age_months=float(rng.uniform(12, 216)), sex=sex)
            phantom = render(parameters, height_px=self.height_px)
            drawn.append((phantom.pixels, phantom.mask))
        return drawn[: self.count], _outlines(drawn[self.count :], size_px)


Set = Annotated[Radiographs | Phantoms, Field(discriminator="kind")]


class LabelStudyConfig(JobConfig):
    """Everything the study depends on.

    `plan` is that of every run; its strategy and seed are replaced, and only strategies of a committee have more than
    one of its members.
    """

    sets: dict[str, Set]
    selection_images: int = Field(ge=1)
    strategies: list[Name]
    seeds: list[int]
    plan: Plan
    out: Path


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: a strategy, or a network with all labels."""

    set: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.set}-{self.arm}-{self.seed}"


def units(config: LabelStudyConfig) -> Iterator[Unit]:
    """All runs, seed by seed, so that a study that is not complete yet is balanced; two in a row share no beginning."""
    for seed in config.seeds:
        for arm in (*config.strategies, *ALL_LABELS):
            yield from (Unit(name, arm, seed) for name in config.sets)


def plan_of(plan: Plan, unit: Unit, *, dropout: float = 0.2) -> Plan:
    """The plan of one run of a strategy."""
    strategy: Any = unit.arm
    return replace(
        plan, strategy=strategy, seed=unit.seed, members=plan.members if strategy in COMMITTEES else 1,
        dropout=dropout if strategy == "mc_dropout" else 0.0,
    )  # fmt: skip


def run(config: LabelStudyConfig) -> None:
    """Do the runs that are missing and nobody else does; the report is written after each."""
    cv2.setNumThreads(1)
    worlds: dict[str, World] = {}
    for unit in units(config):
        folder = config.out / "runs" / unit.name
        with _claimed(folder) as ours:
            if not ours:
                continue
            LOG.info("%s", unit.name)
            if unit.set not in worlds:
                worlds[unit.set] = _world(config, unit.set)
            if unit.arm in ALL_LABELS:
                with_all_labels(ALL_LABELS[unit.arm], worlds[unit.set], replace(config.plan, seed=unit.seed), folder)
            else:
                beginnings = config.out / "beginnings" / f"{unit.set}-{unit.seed}"
                simulate(worlds[unit.set], plan_of(config.plan, unit), folder, beginnings=beginnings)
        report(config)
    report(config)


def report(config: LabelStudyConfig) -> None:
    """Build the report from the runs that are complete."""
    planned = list(units(config))
    curves = [
        Curve.read(config.out / "runs" / unit.name / RESULT, unit.set, unit.arm, unit.seed)
        for unit in planned
        if (config.out / "runs" / unit.name / RESULT).exists()
    ]
    if curves:
        write_report(config.out, curves, planned=len(planned), size_px=config.plan.size_px)


def _world(config: LabelStudyConfig, name: str) -> World:
    size_px = config.plan.size_px
    free, test = config.sets[name].pairs(size_px)
    if len(free) < config.selection_images + config.plan.maximum_labels:
        raise BadConfigurationError(
            f"sets.{name}: {len(free)} outlines are too few for {config.plan.maximum_labels} labels and "
            f"{config.selection_images} to select with"
        )
    order = np.random.default_rng(0).permutation(len(free))
    chosen = [free[int(index)] for index in order]
    selection = _outlines(chosen[: config.selection_images], size_px)
    return World(chosen[config.selection_images :], selection, test, size_px)


def _outlines(pairs: list[tuple[Any, Any]], size_px: int) -> Outlines:
    return Outlines.of([(network_input(frame, size_px), square_mask(mask, size_px)) for frame, mask in pairs])


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether this process may do a run; none other may until it is done, or has died."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claimed").open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield not (folder / RESULT).exists()


if __name__ == "__main__":
    command(LabelStudyConfig, run, __doc__)
