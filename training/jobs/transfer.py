"""Trains a network by paced transfer learning (paper 2.4): `python -m training.jobs.transfer --config FILE`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import cv2
from pydantic import Field

from training.data.radiographs import Radiograph
from training.evaluation.curves import draw_curves
from training.jobs.begun import FREE, STATE, as_begun, check_begun, check_learnt_from, keep_begun
from training.jobs.command import JobConfig, command
from training.jobs.lessons import Teacher
from training.jobs.source import Hub, Source, examples, learnt_from, network, with_bad_files
from training.models.backbones import StageMap
from training.publish.published import Published
from training.publish.trained_on import TRAINING_IDS, trained_on
from training.run.checkpoint import Checkpoint, save_whole
from training.run.claim import alone
from training.run.exits import BadConfigurationError
from training.run.journal import Journal, read_journal
from training.run.results import write_json
from training.run.steps import run_steps
from training.transfer.devices import AskedPrecision, Device, choose_device
from training.transfer.learner import Fitting, StagedLearner
from training.transfer.stages import Stage, total_images
from training.transfer.target import AgeTarget, CategoryTarget, Target

ELSEWHERE: Final = FREE | {"device", "precision", "kept"}
"""What may differ where a run is gone on with on another machine."""


class TransferConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card.

    `start_from` is ImageNet's weights (safetensors, or `imagenet` for those of timm's hub), the `weights.pt` of another
    run, or a published version (a file `model.onnx`, or its place in a store).
    `stage_map` names the first block of the middle and of the exit flow, where another cut is wanted than the one by
    the size of the maps. What a `teacher` reads is imitated beside the labels. `kept` is where the maps of frozen flows
    are kept, for stages that want it.
    """

    source: Source
    backbone: str
    start_from: Hub | Path | Published | None
    stage_map: StageMap | None = None
    target: Annotated[AgeTarget | CategoryTarget, Field(discriminator="kind")]
    stages: list[Stage] = Field(min_length=1)
    fitting: Fitting
    teacher: Teacher | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: AskedPrecision = "auto"
    kept: Path | None = None
    out: Path
    checkpoint_every_s: float = Field(120.0, gt=0)

    @property
    def weights(self) -> Hub | Path | None:
        """The file to start from; a version that lies in a store is copied from there, once."""
        return self.start_from.fetch(self.out) if isinstance(self.start_from, Published) else self.start_from

    def settled(self, device: Device) -> Self:
        """The same with the version named that serves as the run begins: one that goes on starts from no other.

        Of several processes the first one names it, since another may serve by the time the next one asks.
        """
        return self.model_copy(update={"start_from": device.agreed(self._settled)})

    def _settled(self) -> Hub | Path | Published | None:
        if not isinstance(self.start_from, Published):
            return self.start_from
        return as_begun(self.start_from, self.out, "start_from")


def learner(config: TransferConfig, device: Device, radiographs: Sequence[Radiograph]) -> StagedLearner:
    """What `run` trains."""
    parts = {part: [r for r in radiographs if r.part == part] for part in ("train", "validation")}
    if empty := [part for part, members in parts.items() if not members]:
        raise BadConfigurationError(f"{config.source.dataset.split}: no radiograph is in {' or '.join(empty)}")
    train = with_bad_files(config.source, examples(config.source, parts["train"], config.target))
    lessons = None if config.teacher is None else config.teacher.lessons(train, config.target, device, config.out)
    return StagedLearner(
        network(
            config.backbone,
            config.weights,
            config.target,
            seed=config.fitting.seed,
            images=None if (config.out / STATE).exists() else train,
            stage_map=config.stage_map,
        ),
        train=train,
        validation=examples(config.source, parts["validation"], config.target),
        target=config.target,
        stages=config.stages,
        fitting=config.fitting,
        device=device,
        cache=config.kept,
        lessons=lessons,
    )


def run(config: TransferConfig) -> None:
    """Train, or go on; at the end `weights.pt`, `figures.json` of the validation part and `curves.png` are there."""
    cv2.setNumThreads(1)
    device = choose_device(precision=config.precision, kind=config.device)
    with ExitStack() as stack:
        # Others would wait for the first in vain, which waits for another run, until their patience ends.
        device.agreed(lambda: stack.enter_context(alone(config.out, wait=device.world == 1)))
        _train(config.settled(device), device)


def _train(config: TransferConfig, device: Device) -> None:
    device.agreed(lambda: check_begun(config, config.out, free=ELSEWHERE))
    radiographs = config.source.dataset.read()
    learning_from = learnt_from(config.source, radiographs, weights=config.weights, teacher=config.teacher)
    device.agreed(lambda: check_learnt_from(learning_from, config.out))
    learning = learner(config, device, radiographs)
    rank = device.rank
    if not rank:
        keep_begun(config, learning_from, config.out)
    ids = training_ids(config, radiographs)  # now, since files may be gone by the end
    steps = total_images(config.stages) // config.fitting.batch_size
    with Journal(config.out / f"rank-{rank}" if rank else config.out, title=config.backbone, total=steps) as journal:
        checkpoint = Checkpoint(config.out / STATE, every_s=config.checkpoint_every_s, writes=not rank)
        run_steps(learning, steps=steps, checkpoint=checkpoint, journal=journal, after=lambda _: learning.finished)
    if not rank:
        write_results(config.out, learning, config.target, ids)


def training_ids(config: TransferConfig, radiographs: Sequence[Radiograph]) -> list[str]:
    """Names of the radiographs that the weights come from: this run's, and those of what it starts from or imitates."""
    own = {radiograph.id for radiograph in radiographs if radiograph.part == "train"}
    before = trained_on(config.weights) if isinstance(config.weights, Path) else set()
    imitated = [member.training_ids() for member in config.teacher.members] if config.teacher else []
    return sorted(own.union(before, *imitated))


def write_results(out: Path, learning: StagedLearner, target: Target, ids: Sequence[str]) -> None:
    """The best weights with the `ids` that they come from, their figures and the curves; each whole or not there."""
    figures = learning.validate()
    state = {"model": learning.network.state_dict(), "figures": figures, TRAINING_IDS: list(ids)}
    save_whole(state, out / "weights.pt")
    write_json(out / "figures.json", {"validation": figures, "score": target.selection(figures)})
    draw_curves(read_journal(out), out / "curves.png", images_a_step=learning.fitting.batch_size)


if __name__ == "__main__":
    command(TransferConfig, run, __doc__)
