"""How many outlines each strategy of active learning needs: `python -m training.jobs.label_study --config FILE`.

Every strategy for every seed on radiographs whose outlines are all known, and on phantoms, beside what it is held
against: random with dropout for MC-dropout, as many steps on the first outlines alone, and the paper's own comparison,
a U-Net with all outlines. Each run is a unit of its own; the report is built from those that are complete. Several
processes may work on one study: each takes what no other has begun.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.active_learning.learner import Outlines
from training.active_learning.plan import Plan
from training.active_learning.sight import network_input, square_mask
from training.active_learning.simulation import Architecture, World, first_alone, simulate, with_fixed_labels
from training.active_learning.strategies import Name
from training.data import phantom
from training.data.masks import read_masks
from training.data.phantom import draw_parameters, render
from training.data.radiographs import Dataset, image_files
from training.data.scenes import drawing
from training.data.split import MASK_TEST_CSV, read_ids
from training.evaluation.label_curves import Curve
from training.evaluation.label_study import ALL_LABELS, FIRST_LABELS, RANDOM_DROPOUT, UNET, Progress, write_report
from training.jobs.command import JobConfig, command
from training.run.claim import claimed
from training.run.exits import BadConfigurationError
from training.run.precision import computes_in_bfloat16
from training.run.room import whole
from training.run.spent import Spent

LOG = logging.getLogger(__name__)
RESULT: Final = "result.json"
COMMITTEES: Final = ("committee", "vote_entropy")
WITH_DROPOUT: Final = ("mc_dropout", RANDOM_DROPOUT)
WITH_ALL: Final[dict[str, Architecture]] = {ALL_LABELS: "fcdensenet", UNET: "unet"}
DIGEST_CHARACTERS: Final = 12

Pairs = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Frames and their masks, both (H, W), by id."""


@dataclass(frozen=True, slots=True)
class Radiographs:
    """Outlined radiographs: `masks` holds the folders image and mask; `test` (CSV, id) is only measured."""

    dataset: Dataset
    masks: Path
    test: Path = MASK_TEST_CSV
    kind: Literal["radiographs"] = "radiographs"

    def pairs(self) -> tuple[Pairs, Pairs]:
        """What may be asked or selects, and what tests."""
        held = set(read_ids(self.test))
        outlined = {p.id: (p.frame, p.mask) for p in read_masks(self.masks, self.dataset.true_shapes())}
        if missing := held - outlined.keys():
            raise BadConfigurationError(f"{self.masks} has no outline of {', '.join(sorted(missing)[:5])}")
        free = {id_: pair for id_, pair in outlined.items() if id_ not in held}
        return free, {id_: pair for id_, pair in outlined.items() if id_ in held}

    def digest(self) -> str:
        """SHA-256 of what it holds, wherever it lies."""
        shapes = self.dataset.true_shapes()
        files = [image_files(self.masks / folder) for folder in ("image", "mask")]
        content = [(id_, shapes.get(id_), *(sha256(of[id_].read_bytes()).hexdigest() for of in files if id_ in of))
                   for id_ in sorted(files[1])]  # fmt: skip
        return _digest([content, sorted(read_ids(self.test))])


@dataclass(frozen=True, slots=True)
class Phantoms:
    """Drawn hands, with their exact outlines."""

    count: int
    test: int
    height_px: int = 320
    kind: Literal["phantoms"] = "phantoms"

    def pairs(self) -> tuple[Pairs, Pairs]:
        """As of radiographs."""
        rng = np.random.default_rng(0)
        drawn: list[Pairs] = [{}, {}]
        for index in range(self.count + self.test):
            sex: Literal["male", "female"] = "male" if index % 2 else "female"
            parameters = draw_parameters(rng, age_months=float(rng.uniform(12, 216)), sex=sex)
            one = render(parameters, height_px=self.height_px)
            drawn[index >= self.count][f"phantom-{index}"] = one.pixels, one.mask
        return drawn[0], drawn[1]

    def digest(self) -> str:
        """SHA-256 of how many there are, and of the code that draws them."""
        code = [path.read_text() for path in sorted(Path(phantom.__path__[0]).glob("*.py"))]
        return _digest([asdict(self), *code])


Set = Annotated[Radiographs | Phantoms, Field(discriminator="kind")]


class LabelStudyConfig(JobConfig):
    """Everything the study depends on.

    `plan` is that of every run; its strategy and seed are replaced, and only strategies of a committee have more than
    one of its members. `dropout` is that of MC-dropout and of its control. `budget_cpu_hours` is what the report holds
    the time against that all runs took.
    """

    sets: dict[str, Set]
    selection_images: int = Field(ge=1)
    strategies: list[Name]
    seeds: list[int]
    plan: Plan
    dropout: float = Field(0.2, gt=0, lt=1)
    budget_cpu_hours: float = Field(12, gt=0)
    out: Path


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: a strategy, or what it is held against."""

    set: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.set}-{self.arm}-{self.seed}"


def units(config: LabelStudyConfig) -> Iterator[Unit]:
    """All runs, seed by seed, so that a study that is not complete yet is balanced; two in a row share no beginning."""
    controls = [RANDOM_DROPOUT] if "mc_dropout" in config.strategies else []
    for seed in config.seeds:
        for arm in (*config.strategies, *controls, FIRST_LABELS, *WITH_ALL):
            yield from (Unit(name, arm, seed) for name in config.sets)


def plan_of(config: LabelStudyConfig, unit: Unit) -> Plan:
    """The plan of one run; one that asks nothing has that of random."""
    strategy: Any = unit.arm if unit.arm in config.strategies else "random"
    return replace(
        config.plan, strategy=strategy, seed=unit.seed, members=config.plan.members if strategy in COMMITTEES else 1,
        dropout=config.dropout if unit.arm in WITH_DROPOUT else 0.0,
    )  # fmt: skip


def run(config: LabelStudyConfig) -> None:
    """Do the runs that are missing and nobody else does; the report is written after each."""
    cv2.setNumThreads(1)
    digests = {name: chosen.digest() for name, chosen in config.sets.items()}
    _check_made_with(config, digests)
    worlds: dict[str, World] = {}
    for unit in units(config):
        folder = config.out / "runs" / unit.name
        with claimed(folder) as ours:
            if not ours or (folder / RESULT).exists():
                continue
            LOG.info("%s", unit.name)
            if unit.set not in worlds:
                worlds[unit.set] = _world(config, unit.set)
            _run(config, unit, worlds[unit.set], digests[unit.set])
        report(config, digests)
    report(config, digests)


def report(config: LabelStudyConfig, digests: Mapping[str, str]) -> None:
    """Build the report from the runs that are complete."""
    planned = list(units(config))
    results = {unit: config.out / "runs" / unit.name / RESULT for unit in planned}
    curves = [Curve.read(path, unit.set, unit.arm, unit.seed) for unit, path in results.items() if path.exists()]
    begun = [_work(config, unit, digests[unit.set]) for unit, path in results.items() if not path.exists()]
    seconds = sum(curve.cpu_seconds for curve in curves) + sum(Spent(work).seconds for work in begun)
    if curves:
        with claimed(config.out, wait=True):
            progress = Progress(len(planned), seconds, config.budget_cpu_hours)
            write_report(config.out, curves, progress, size_px=config.plan.size_px)


def _run(config: LabelStudyConfig, unit: Unit, world: World, digest: str) -> None:
    """One run, begun or gone on with; only its result stays."""
    work, plan = _work(config, unit, digest), plan_of(config, unit)
    work.mkdir(parents=True, exist_ok=True)
    beginnings = config.out / "beginnings" / f"{unit.set}-{_beginning(config, unit, digest)}"
    spent = Spent(work)
    try:
        if unit.arm in WITH_ALL:
            rounds = with_fixed_labels(world, plan, work, list(world.pool), network=WITH_ALL[unit.arm], spent=spent)
        else:
            play = first_alone if unit.arm == FIRST_LABELS else simulate
            rounds = play(world, plan, work, beginnings=beginnings, spent=spent)
    finally:
        spent.save()
    result = {"made_with": _made_with(config, unit, digest), "cpu_seconds": round(spent.seconds, 1), "rounds": rounds}
    with whole(work.with_name(RESULT)) as file:
        file.write((json.dumps(result) + "\n").encode())
    shutil.rmtree(work)


def _work(config: LabelStudyConfig, unit: Unit, digest: str) -> Path:
    """Where a run that is not complete is kept: what another configuration has begun is never gone on with."""
    return config.out / "runs" / unit.name / _made_with(config, unit, digest)[:DIGEST_CHARACTERS]


def _made_with(config: LabelStudyConfig, unit: Unit, digest: str) -> str:
    """SHA-256 of all that a run depends on beside the code, and of what that draws."""
    plan = asdict(plan_of(config, unit))
    return _digest([unit.arm, plan, config.selection_images, digest, drawing(), computes_in_bfloat16()])


def _beginning(config: LabelStudyConfig, unit: Unit, digest: str) -> str:
    """What names a first round that strategies share; a member's dropout is in the name of its own folder."""
    plan = replace(config.plan, strategy="random", seed=unit.seed, members=1, dropout=0.0)
    made_with = [asdict(plan), config.selection_images, digest, drawing(), computes_in_bfloat16()]
    return _digest(made_with)[:DIGEST_CHARACTERS]


def _check_made_with(config: LabelStudyConfig, digests: Mapping[str, str]) -> None:
    """Raise BadConfigurationError where a complete run was made otherwise: the two are not to be compared."""
    for unit in units(config):
        path = config.out / "runs" / unit.name / RESULT
        if path.exists() and json.loads(path.read_text()).get("made_with") != _made_with(
            config, unit, digests[unit.set]
        ):
            raise BadConfigurationError(
                f"{path} was made with another configuration, in another precision, on other outlines or by other "
                "draws; delete it or name another folder"
            )


def _digest(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _world(config: LabelStudyConfig, name: str) -> World:
    size_px, count = config.plan.size_px, config.selection_images
    free, test = config.sets[name].pairs()
    if len(free) < count + config.plan.maximum_labels:
        raise BadConfigurationError(
            f"sets.{name}: {len(free)} outlines are too few for {config.plan.maximum_labels} labels and "
            f"{count} to select with"
        )
    ids = [list(free)[int(index)] for index in np.random.default_rng(0).permutation(len(free))]
    selection, pool = ({id_: free[id_] for id_ in chosen} for chosen in (ids[:count], ids[count:]))
    return World(pool, _outlines(selection, size_px), _outlines(test, size_px), size_px)


def _outlines(pairs: Pairs, size_px: int) -> Outlines:
    return Outlines.of((network_input(frame, size_px), square_mask(mask, size_px)) for frame, mask in pairs.values())


if __name__ == "__main__":
    command(LabelStudyConfig, run, __doc__)
