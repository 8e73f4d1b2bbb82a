"""Trains one FC-DenseNet on hand outlines: `python -m training.jobs.segmenter --config FILE`."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import resize
from training.data.augment import apply_geometry, apply_intensity
from training.data.masks import read_masks, segmenter_pair
from training.data.rsna import read_rsna
from training.data.scenes import draw_scene_change, draw_surroundings
from training.data.split import MASK_TEST_CSV, read_ids
from training.jobs.command import JobConfig, command
from training.models.segmenter import FCDenseNet, segmentation_loss

Pairs = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


class PhaseConfig(JobConfig):
    """Some steps at one image size and top learning rate."""

    size_px: int
    steps: int
    batch_size: int
    learning_rate: float


class SegmenterConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card."""

    data: Path
    masks: Path
    out: Path
    start_from: Path | None = None
    seed: int
    selection_images: int
    validate_every: int
    phases: list[PhaseConfig]


def training_batch(pairs: Pairs, rng: np.random.Generator, phase: PhaseConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """One augmented batch, both (B, 1, size_px, size_px)."""
    inputs, targets = [], []
    for index in rng.integers(len(pairs), size=phase.batch_size):
        image, mask = pairs[index]
        change = draw_scene_change(rng)
        image, mask = apply_geometry(image, change), apply_geometry(mask, change)
        image = draw_surroundings(apply_intensity(image, change), mask > 0.5, rng)
        inputs.append(resize(image, height=phase.size_px, width=phase.size_px))
        targets.append(resize(mask, height=phase.size_px, width=phase.size_px) >= 0.5)
    return (
        torch.from_numpy(np.stack(inputs)[:, None]).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(np.stack(targets)[:, None].astype(np.float32)),
    )


def mean_dice(model: FCDenseNet, pairs: Pairs) -> tuple[float, float]:
    """Mean and smallest Dice of the final mask (Otsu, largest component, holes filled) on whole pairs."""
    model.eval()
    scores = []
    for image, mask in pairs:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.from_numpy(image)[None, None].contiguous(memory_format=torch.channels_last))
        scores.append(dice(hand_mask(logits.float().sigmoid().numpy()[0, 0]), mask >= 0.5))
    model.train()
    return float(np.mean(scores)), float(np.min(scores))


def run(config: SegmenterConfig) -> None:
    """Train; `best.pt` is the checkpoint with the best Dice on the selection images (never the test masks)."""
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    shapes = {sample.id: sample.true_shape for sample in read_rsna(config.data)}
    held = set(read_ids(MASK_TEST_CSV))
    pairs = [segmenter_pair(pair) for pair in read_masks(config.masks, shapes) if pair.id not in held]
    order = rng.permutation(len(pairs))
    selection = [pairs[i] for i in order[: config.selection_images]]
    train = [pairs[i] for i in order[config.selection_images :]]
    model = FCDenseNet().to(memory_format=torch.channels_last)
    if config.start_from is not None:
        model.load_state_dict(torch.load(config.start_from, weights_only=True)["model"])
    config.out.mkdir(parents=True, exist_ok=True)
    best = 0.0
    with (config.out / "log.jsonl").open("a", buffering=1) as log:
        for phase in config.phases:
            optimiser = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, phase.learning_rate, total_steps=phase.steps)
            for step in range(1, phase.steps + 1):
                images, masks = training_batch(train, rng, phase)
                with torch.autocast("cpu", torch.bfloat16):
                    logits = model(images)
                loss = segmentation_loss(logits.float(), masks)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                if step % config.validate_every == 0 or step == phase.steps:
                    mean, worst = mean_dice(model, selection)
                    print(
                        json.dumps(
                            {
                                "size_px": phase.size_px,
                                "step": step,
                                "loss": float(loss.detach()),
                                "selection_dice": mean,
                                "selection_dice_min": worst,
                            }
                        ),
                        file=log,
                    )
                    if mean >= best:
                        best = mean
                        torch.save({"model": model.state_dict(), "selection_dice": mean}, config.out / "best.pt")


if __name__ == "__main__":
    command(SegmenterConfig, run, __doc__)
