"""Trains the enhancer, a conditional GAN on degraded and original hands.

    python -m training.jobs.enhancer --config FILE

The gold standard are the sharpest segmented hands of the training part, in place of the paper's 500 that a person
adjusted; what they are degraded by is drawn.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from training.data.radiographs import report_missing
from training.data.rows import Rows
from training.data.split import SPLIT_CSV, Part, read_split
from training.enhancement.degrade import Shares, quality
from training.enhancement.learner import EnhancerLearner
from training.evaluation.curves import draw_curves
from training.jobs.begun import STATE, check_begun, check_learnt_from, keep_begun
from training.jobs.command import JobConfig, command
from training.run.checkpoint import Checkpoint, save_whole
from training.run.claim import alone
from training.run.exits import BadConfigurationError
from training.run.journal import Journal, read_journal
from training.run.results import write_json
from training.run.steps import run_steps


class EnhancerConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card.

    `adversarial_weight` is the share of the discriminator in the generator's loss (eq. 9); 0 trains without one.
    `collimation_share` and `inversion_share` of the hands are cut by a collimator's border, or left as the negative.
    """

    hands: Path
    split: Path = SPLIT_CSV
    out: Path
    seed: int
    gold_standard_images: int = Field(ge=2)
    selection_images: int = Field(ge=1)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    adversarial_weight: float = Field(0.0, ge=0)
    collimation_share: float = Field(0.0, ge=0, le=1)
    inversion_share: float = Field(0.0, ge=0, le=1)
    validate_every: int = Field(ge=1)
    checkpoint_every_s: float = Field(120.0, gt=0)

    @model_validator(mode="after")
    def _some_to_learn_from(self) -> Self:
        if self.gold_standard_images <= self.selection_images:
            raise ValueError("gold_standard_images leaves none to learn from beside selection_images")
        return self


def gold_standard(config: EnhancerConfig, prepared: Rows, parts: Mapping[str, Part]) -> NDArray[np.intp]:
    """Which rows (N,) hold the best segmented hands of the training part, best first."""
    meant = [row for row, id_ in enumerate(prepared.ids) if parts.get(id_) == "train"]
    report_missing(
        f"were not prepared in {config.hands}",
        [prepared.ids[row] for row in meant if not prepared.done[row]],
        of=len(meant),
    )
    train = [row for row in meant if prepared.done[row]]
    if len(train) <= config.selection_images:
        raise BadConfigurationError(
            f"{config.hands}: {len(train)} hands of the train part leave none to train on beside "
            f"{config.selection_images} for selection"
        )
    hands = prepared.columns["segmented"]
    scores = np.array([quality(hands[row].astype(np.float32) / 255) for row in train])
    return np.array(train)[np.argsort(-scores, kind="stable")[: config.gold_standard_images]]


def run(config: EnhancerConfig) -> None:
    """Train, or go on; `weights.pt` are the best on degraded selection hands, `curves.png` shows the way there."""
    cv2.setNumThreads(1)
    with alone(config.out):
        _train(config)


def _train(config: EnhancerConfig) -> None:
    check_begun(config, config.out)
    prepared = Rows.read(config.hands)
    parts = read_split(config.split)
    learnt_from = {"hands": prepared.digest([id_ for id_ in prepared.ids if parts.get(id_) == "train"])}
    check_learnt_from(learnt_from, config.out)
    gold = np.random.default_rng(config.seed).permutation(gold_standard(config, prepared, parts))
    learner = EnhancerLearner(
        hands=prepared.columns["segmented"],
        gold=gold[config.selection_images :], selection=gold[: config.selection_images],
        steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate,
        adversarial_weight=config.adversarial_weight, validate_every=config.validate_every, seed=config.seed,
        shares=Shares(config.collimation_share, config.inversion_share),
    )  # fmt: skip
    keep_begun(config, learnt_from, config.out)
    with Journal(config.out, title="enhancer", total=config.steps) as journal:
        checkpoint = Checkpoint(config.out / STATE, every_s=config.checkpoint_every_s)
        run_steps(learner, steps=config.steps, checkpoint=checkpoint, journal=journal)
    save_whole({"model": learner.best, "selection_l1": learner.error}, config.out / "weights.pt")
    write_json(config.out / "figures.json", {"selection_l1": learner.error})
    draw_curves(read_journal(config.out), config.out / "curves.png", images_a_step=config.batch_size)


if __name__ == "__main__":
    command(EnhancerConfig, run, __doc__)
