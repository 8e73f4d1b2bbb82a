"""Outlines with as few annotations as it takes (paper 2.2): `python -m training.jobs.active_learning --config FILE`.

Each run does one round: it takes the answers to what was asked, trains the committee, scores every radiograph that has
no outline, and asks for the next. Exit code 3 says that answers are awaited: start it again when they are there.
"""

from pathlib import Path
from typing import Annotated, Any

import cv2
from pydantic import Field

from training.active_learning.label_studio import LabelStudio
from training.active_learning.learner import Outlines
from training.active_learning.oracles import Beginning, Folder, GroundTruth
from training.active_learning.plan import Plan
from training.active_learning.rounds import START, Rounds
from training.active_learning.sight import network_input, square_mask
from training.data.frames import Frames
from training.data.masks import outlined, outlines_digest, read_masks
from training.data.radiographs import Dataset
from training.data.split import MASK_TEST_CSV, read_ids
from training.evaluation.labels import draw_labels
from training.jobs.begun import FREE, check_begun, check_learnt_from, keep_begun
from training.jobs.command import JobConfig, command
from training.run.claim import alone
from training.run.exits import BadConfigurationError


class ActiveLearningConfig(JobConfig):
    """Everything a run depends on.

    `masks` holds the folders `image` and `mask` of what is outlined from the start; of these `selection` (CSV, id)
    choose weights and tell convergence, and `test` (CSV, id) are only measured. Neither is ever asked or learnt from.
    The others that are of the train part are what the first round learns from, but in a simulation (`ground_truth`),
    which asks for them. `pool_limit` bounds how many may be asked.
    """

    dataset: Dataset
    masks: Path
    selection: Path
    test: Path = MASK_TEST_CSV
    oracle: Annotated[GroundTruth | Folder | LabelStudio, Field(discriminator="kind")]
    plan: Plan
    out: Path
    pool_limit: int | None = Field(None, ge=1)
    rounds: int = Field(1, ge=1)


def rounds(config: ActiveLearningConfig) -> Rounds:
    """The run as its folder has it."""
    held = {name: set(read_ids(path)) for name, path in (("selection", config.selection), ("test", config.test))}
    there = set(outlined(config.masks))
    sets = {}
    for name, ids in held.items():
        if missing := sorted(ids - there):
            raise BadConfigurationError(f"{name}: {config.masks} has no outline of {', '.join(missing[:5])}")
        pairs = read_masks(config.masks, config.dataset.true_shapes(), only=ids)
        size_px = config.plan.size_px
        sets[name] = Outlines.of((network_input(p.frame, size_px), square_mask(p.mask, size_px)) for p in pairs)
    if shared := held["selection"] & held["test"]:
        raise BadConfigurationError(f"selection and test share {', '.join(sorted(shared)[:5])}")
    radiographs = [
        r for r in config.dataset.read() if r.part == "train" and r.id not in held["selection"] | held["test"]
    ]
    outlines = [r for r in radiographs if r.id in there]
    simulated = isinstance(config.oracle, GroundTruth)
    asked = outlines if simulated else [r for r in radiographs if r.id not in there]
    given = set() if simulated else {r.id for r in outlines}
    chosen = given | {r.id for r in asked[: config.pool_limit]}
    frames = Frames.keep([r for r in radiographs if r.id in chosen], config.out / "frames")
    pool = [r.id for r in radiographs if r.id in frames]
    if len(pool) < config.plan.start:
        raise BadConfigurationError(f"{len(pool)} radiographs are too few to begin with {config.plan.start} outlines")
    oracle = Beginning(config.masks / "mask", frozenset(given), config.oracle)
    selection, test = sets["selection"], sets["test"]
    return Rounds(config.out, config.plan, pool, frames.frame, oracle, selection, test, given=frozenset(given))


def _measured_on(config: ActiveLearningConfig) -> dict[str, str]:
    """Digests of the outlines by which rounds are compared: of others, their curve would be none."""
    shapes = config.dataset.true_shapes()
    return {
        f"outlines of {name}": outlines_digest(config.masks, sorted(set(read_ids(path))), shapes)
        for name, path in (("selection", config.selection), ("test", config.test))
    }


def run(config: ActiveLearningConfig) -> None:
    """Do rounds until as many are done as one run may do, the committee has converged, or answers are awaited."""
    cv2.setNumThreads(1)
    with alone(config.out):
        _learn(config)


def _learn(config: ActiveLearningConfig) -> None:
    check_begun(config, config.out, state=START, free=FREE | {"rounds", "oracle"})
    learning, measured_on = rounds(config), _measured_on(config)
    check_learnt_from(measured_on, config.out, state=START)
    keep_begun(config, measured_on, config.out)
    for _ in range(config.rounds):
        done: list[dict[str, Any]] = learning.done()
        if done and done[-1]["converged"]:
            break
        learning.next()
        draw_labels(learning.done(), config.out / "labels.png")


if __name__ == "__main__":
    command(ActiveLearningConfig, run, __doc__)
