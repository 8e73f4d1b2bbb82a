"""Outlines with as few annotations as it takes (paper 2.2): `python -m training.jobs.active_learning --config FILE`.

Each run does one round: it takes the answers to what was asked, trains the committee, scores every radiograph that has
no outline, and asks for the next. Exit code 3 says that answers are awaited: start it again when they are there.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import cv2
import yaml
from pydantic import Field

from training.active_learning.label_studio import LabelStudio
from training.active_learning.learner import Outlines
from training.active_learning.oracles import Folder, GroundTruth
from training.active_learning.plan import Plan
from training.active_learning.rounds import Rounds
from training.active_learning.sight import network_input, square_mask
from training.data.frames import Frames
from training.data.masks import outlined, read_masks
from training.data.radiographs import Dataset
from training.data.split import MASK_TEST_CSV, read_ids
from training.evaluation.labels import draw_labels
from training.jobs.command import JobConfig, command
from training.run.exits import BadConfigurationError


class ActiveLearningConfig(JobConfig):
    """Everything a run depends on.

    `masks` holds the folders `image` and `mask` of what is outlined from the start; of these `selection` (CSV, id)
    choose weights and tell convergence, and `test` (CSV, id) are only measured. Neither is ever asked or learnt from.
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
    if isinstance(config.oracle, GroundTruth):
        radiographs = [r for r in radiographs if r.id in there]
    frames = Frames.keep(radiographs[: config.pool_limit], config.out / "frames")
    pool = [r.id for r in radiographs if r.id in frames]
    if len(pool) < config.plan.start:
        raise BadConfigurationError(f"{len(pool)} radiographs are too few to begin with {config.plan.start} outlines")
    return Rounds(config.out, config.plan, pool, frames.frame, config.oracle, sets["selection"], sets["test"])


def run(config: ActiveLearningConfig) -> None:
    """Do rounds until as many are done as one run may do, the committee has converged, or answers are awaited."""
    cv2.setNumThreads(1)
    values = json.loads(config.model_dump_json())
    settings = config.out / "config.yaml"
    if settings.exists() and (before := yaml.safe_load(settings.read_text())["plan"]) != values["plan"]:
        differing = [key for key in values["plan"] if values["plan"][key] != before.get(key)]
        raise BadConfigurationError(f"{config.out} was begun with another {', '.join(differing)}")
    learning = rounds(config)
    settings.write_text(yaml.safe_dump(values, sort_keys=False))
    for _ in range(config.rounds):
        done: list[dict[str, Any]] = learning.done()
        if done and done[-1]["converged"]:
            break
        learning.next()
        draw_labels(learning.done(), config.out / "labels.png")


if __name__ == "__main__":
    command(ActiveLearningConfig, run, __doc__)
