"""Trains the bone-age regressor by staged unfreezing: `python -m training.jobs.regressor --config FILE`."""

import json
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.preprocess import HAND_PX, crop_square, standardise, whole
from training.data.rsna import Frames, Sample, load_frames, read_rsna
from training.data.split import read_split
from training.jobs.command import JobConfig, command
from training.models.regressor import BoneAgeRegressor
from training.transfer.fit import HandImages, Stage, fit, predict


class StageConfig(JobConfig):
    """One stage of unfreezing, in the order of running."""

    trainable: list[Literal["exit", "middle", "entry"]]
    epochs: int
    learning_rate: float
    final_fraction: float = 1.0
    unknown_share: float = 0.1


class RegressorConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card."""

    data: Path
    cache: Path
    out: Path
    images: Literal["raw", "enhanced"]
    backbone: str
    start_from: Path
    seed: int
    batch_size: int
    weight_decay: float
    workers: int
    stages: list[StageConfig]


def raw_hands(frames: Frames, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Whole standardised frames (N, HAND_PX, HAND_PX), neither segmented nor enhanced."""
    hands = np.zeros((len(indices), HAND_PX, HAND_PX), np.uint8)
    for row, index in enumerate(indices):
        frame = frames.frame(int(index))
        hands[row] = np.rint(crop_square(standardise(frame), whole(frame), size_px=HAND_PX) * 255)
    return hands


def hands_of(config: RegressorConfig, samples: list[Sample], indices: NDArray[np.intp]) -> NDArray[np.uint8]:
    """The images the configuration asks for, (N, HAND_PX, HAND_PX)."""
    if config.images == "raw":
        return raw_hands(load_frames(samples, config.cache / "frames.npz"), indices)
    stored = np.load(config.cache / "hands.npz")
    if not np.array_equal(stored["ids"], np.array([sample.id for sample in samples])):
        raise ValueError(f"{config.cache / 'hands.npz'} holds other images; run training.jobs.hands again")
    hands: NDArray[np.uint8] = stored["hands"][indices]
    return hands


def run(config: RegressorConfig) -> None:
    """Train, validating after each epoch; the last checkpoint and a JSON-lines log stay in `config.out`."""
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    samples, split = read_rsna(config.data), read_split()
    parts = np.array([split[sample.id] for sample in samples])
    ages = np.array([sample.age_months for sample in samples], np.float32)
    male = np.array([sample.male for sample in samples])
    train, validation = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "validation")
    model = BoneAgeRegressor(config.backbone)
    if config.start_from.suffix == ".safetensors":
        model.load_imagenet(config.start_from)
    else:
        model.load_state_dict(torch.load(config.start_from, weights_only=True)["model"])
    model.to(memory_format=torch.channels_last)
    validation_hands = hands_of(config, samples, validation)
    columns = np.where(male[validation], 0, 1)

    def validate(model: BoneAgeRegressor) -> dict[str, float]:
        errors = np.abs(predict(model, validation_hands) - ages[validation, None])
        return {
            "validation_mae_months": float(errors[np.arange(len(validation)), columns].mean()),
            "validation_mae_sex_unknown_months": float(errors[:, 2].mean()),
        }

    config.out.mkdir(parents=True, exist_ok=True)
    log = (config.out / "log.jsonl").open("a", buffering=1)
    fit(
        model,
        HandImages(hands_of(config, samples, train), ages[train], male[train], seed=config.seed),
        [Stage(tuple(s.trainable), **s.model_dump(exclude={"trainable"})) for s in config.stages],
        batch_size=config.batch_size,
        seed=config.seed,
        workers=config.workers,
        weight_decay=config.weight_decay,
        checkpoint=config.out / "last.pt",
        report=lambda entry: print(json.dumps(entry), file=log),
        validate=validate,
    )


if __name__ == "__main__":
    command(RegressorConfig, run, __doc__)
