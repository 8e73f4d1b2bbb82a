"""Trains a network by paced transfer learning (paper 2.4): `python -m training.jobs.transfer --config FILE`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from pydantic import Field

from training.data.radiographs import Dataset, Radiograph, report_missing, sex_columns
from training.data.rows import Rows
from training.evaluation.curves import draw_curves
from training.jobs.command import JobConfig, command
from training.models.regressor import TransferNetwork
from training.run.checkpoint import Checkpoint
from training.run.exits import BadConfigurationError
from training.run.journal import Journal, read_journal
from training.run.steps import run_steps
from training.transfer.devices import Precision, choose_device
from training.transfer.images import Examples
from training.transfer.learner import Fitting, StagedLearner
from training.transfer.stages import Stage, total_images
from training.transfer.target import AgeTarget, CategoryTarget, Target

IMAGENET: Literal[".safetensors"] = ".safetensors"


class TransferConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card.

    `hands` is a folder of `training.jobs.hands`, `images` its column. `start_from` is ImageNet's weights (safetensors)
    or the `weights.pt` of another run. `kept` is where the maps of frozen flows are kept, for stages that want it.
    """

    dataset: Dataset
    hands: Path
    images: str
    side_px: int = Field(224, ge=32)
    backbone: str
    start_from: Path | None
    target: Annotated[AgeTarget | CategoryTarget, Field(discriminator="kind")]
    stages: list[Stage] = Field(min_length=1)
    fitting: Fitting
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "bf16"
    kept: Path | None = None
    out: Path
    checkpoint_every_s: float = Field(120.0, gt=0)


def examples(config: TransferConfig, radiographs: Sequence[Radiograph]) -> Examples:
    """Labelled images; radiographs that were not prepared are left out, counted and named."""
    prepared = Rows.read(config.hands)
    if config.images not in prepared.columns:
        raise BadConfigurationError(f"images: {config.hands} has no {config.images!r} but {list(prepared.columns)}")
    rows = prepared.find([radiograph.id for radiograph in radiographs])
    absent = [radiograph.id for radiograph, row in zip(radiographs, rows, strict=True) if row < 0]
    report_missing(f"are not in {config.hands}", absent, of=len(radiographs))
    there = [radiograph for radiograph, row in zip(radiographs, rows, strict=True) if row >= 0]
    labels = np.array([_number(config, radiograph) for radiograph in there], np.float32)
    return Examples(prepared.columns[config.images], rows[rows >= 0], labels, sex_columns(there), config.side_px)


def _number(config: TransferConfig, radiograph: Radiograph) -> float:
    try:
        return config.target.number(radiograph.label)
    except ValueError as error:
        raise BadConfigurationError(f"{config.dataset.labels}: {radiograph.id}: {error}") from error


def network(config: TransferConfig) -> TransferNetwork:
    """The network with the weights to start from. Raises BadConfigurationError where they are another network's."""
    torch.manual_seed(config.fitting.seed)
    try:
        result = TransferNetwork(config.backbone, config.target.outputs)
        if config.start_from is not None and config.start_from.suffix == IMAGENET:
            result.load_imagenet(config.start_from)
        elif config.start_from is not None:
            result.load_state_dict(torch.load(config.start_from, weights_only=True)["model"])
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise BadConfigurationError(f"{config.backbone} from {config.start_from}: {error}") from error
    return result


def learner(config: TransferConfig) -> StagedLearner:
    """What `run` trains."""
    radiographs = config.dataset.read()
    parts = {part: [r for r in radiographs if r.part == part] for part in ("train", "validation")}
    if empty := [part for part, members in parts.items() if not members]:
        raise BadConfigurationError(f"{config.dataset.split}: no radiograph is in {' or '.join(empty)}")
    return StagedLearner(
        network(config),
        train=examples(config, parts["train"]),
        validation=examples(config, parts["validation"]),
        target=config.target,
        stages=config.stages,
        fitting=config.fitting,
        device=choose_device(precision=config.precision, kind=config.device),
        cache=config.kept,
    )


def run(config: TransferConfig) -> None:
    """Train, or go on; at the end `weights.pt`, `figures.json` of the validation part and `curves.png` are there."""
    cv2.setNumThreads(1)
    learning = learner(config)
    rank = learning.device.rank
    steps = total_images(config.stages) // config.fitting.batch_size
    with Journal(config.out / f"rank-{rank}" if rank else config.out, title=config.backbone, total=steps) as journal:
        checkpoint = Checkpoint(config.out / "last.pt", every_s=config.checkpoint_every_s, writes=not rank)
        run_steps(learning, steps=steps, checkpoint=checkpoint, journal=journal, after=lambda _: learning.finished)
    if not rank:
        write_results(config.out, learning, config.target)


def write_results(out: Path, learning: StagedLearner, target: Target) -> None:
    """The best weights, their figures and the curves; each file whole or not there."""
    figures = learning.validate()
    torch.save({"model": learning.network.state_dict(), "figures": figures}, out / "weights.partial")
    (out / "weights.partial").replace(out / "weights.pt")
    (out / "figures.json").write_text(json.dumps({"validation": figures, "score": target.selection(figures)}) + "\n")
    draw_curves(read_journal(out), out / "curves.png", images_a_step=learning.fitting.batch_size)


if __name__ == "__main__":
    command(TransferConfig, run, __doc__)
