"""Trains one FC-DenseNet on hand outlines: `python -m training.jobs.segmenter --config FILE`.

With `pseudo_labels` it first outlines further training radiographs with the model it starts from and learns from those
that this one sees alike however they are shown: half of each batch is theirs, half was drawn by people.
"""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import resize, segmenter_input
from training.active_learning.pseudo_labels import pseudo_label
from training.data.augment import apply_geometry, apply_intensity, store
from training.data.masks import read_masks, segmenter_pair
from training.data.radiographs import Dataset, Radiograph, image_files
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


class PseudoLabelConfig(JobConfig):
    """How many training radiographs are outlined, and the least agreement (Dice) that makes an outline a label."""

    radiographs: int
    agreement: float


class SegmenterConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card."""

    dataset: Dataset
    masks: Path
    never_train: Path = MASK_TEST_CSV
    out: Path
    start_from: Path | None = None
    seed: int
    selection_images: int
    validate_every: int
    pseudo_labels: PseudoLabelConfig | None = None
    phases: list[PhaseConfig]


def training_batch(
    sources: list[Pairs], rng: np.random.Generator, phase: PhaseConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """One augmented batch, both (B, 1, size_px, size_px); each of `sources` gives as many pairs as the others."""
    inputs, targets = [], []
    for place in range(phase.batch_size):
        pairs = sources[place % len(sources)]
        image, mask = pairs[int(rng.integers(len(pairs)))]
        change = draw_scene_change(rng)
        image, mask = apply_geometry(image, change), apply_geometry(mask, change)
        image = draw_surroundings(apply_intensity(image, change), mask > 0.5, rng)
        inputs.append(resize(store(image, change), height=phase.size_px, width=phase.size_px))
        targets.append(resize(mask, height=phase.size_px, width=phase.size_px) >= 0.5)
    return (
        torch.from_numpy(np.stack(inputs)[:, None]).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(np.stack(targets)[:, None].astype(np.float32)),
    )


def coarser(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, S) as it comes from a smaller, compressed file: what must not change a mask."""
    return store(image, replace(draw_scene_change(np.random.default_rng(0)), resolution=0.6, jpeg_quality=40))


def mean_dice(model: FCDenseNet, pairs: Pairs) -> tuple[float, float]:
    """Mean and smallest Dice of the final mask (Otsu, largest component, filled) on pairs as they are and coarser."""
    model.eval()
    scores = []
    for form, mask in [(form, mask) for image, mask in pairs for form in (image, coarser(image))]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.from_numpy(form)[None, None].contiguous(memory_format=torch.channels_last))
        scores.append(dice(hand_mask(logits.float().sigmoid().numpy()[0, 0]), mask >= 0.5))
    model.train()
    return float(np.mean(scores)), float(np.min(scores))


def pseudo_pairs(
    model: FCDenseNet, radiographs: list[Radiograph], config: PseudoLabelConfig, folder: Path, rng: np.random.Generator
) -> Pairs:
    """Input and pseudo-label of those drawn radiographs that reach the agreement, kept in `folder`."""
    kept = folder / "pseudo-labels.npz"
    if not kept.exists():
        model.eval()
        images, masks, agreements = [], [], []
        for index in rng.permutation(len(radiographs))[: config.radiographs]:
            image = segmenter_input(radiographs[int(index)].frame())
            mask, agreement = pseudo_label(model, image)
            images.append(image.astype(np.float16))
            masks.append(mask)
            agreements.append(agreement)
        temporary = kept.with_suffix(".partial.npz")
        np.savez_compressed(temporary, images=np.stack(images), masks=np.stack(masks), agreements=np.array(agreements))
        temporary.rename(kept)
        model.train()
    found = np.load(kept)
    sure = np.flatnonzero(found["agreements"] >= config.agreement)
    images, masks = found["images"], found["masks"]
    return [(images[i].astype(np.float32), masks[i].astype(np.float32)) for i in sure]


def run(config: SegmenterConfig) -> None:
    """Train; `best.pt` is the checkpoint with the best Dice on the selection images (never the test masks)."""
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    held = set(read_ids(config.never_train))
    outlined = read_masks(config.masks, config.dataset.true_shapes())
    pairs = [segmenter_pair(pair) for pair in outlined if pair.id not in held]
    order = rng.permutation(len(pairs))
    selection = [pairs[i] for i in order[: config.selection_images]]
    train = [pairs[i] for i in order[config.selection_images :]]
    model = FCDenseNet().to(memory_format=torch.channels_last)
    if config.start_from is not None:
        model.load_state_dict(torch.load(config.start_from, weights_only=True)["model"])
    config.out.mkdir(parents=True, exist_ok=True)
    sources = [train]
    if config.pseudo_labels is not None:
        drawn = image_files(config.masks / "mask")
        others = [r for r in config.dataset.read() if r.part == "train" and r.id not in drawn]
        sources.append(pseudo_pairs(model, others, config.pseudo_labels, config.out, rng))
    best = 0.0
    with (config.out / "log.jsonl").open("a", buffering=1) as log:
        for phase in config.phases:
            optimiser = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, phase.learning_rate, total_steps=phase.steps)
            for step in range(1, phase.steps + 1):
                images, masks = training_batch(sources, rng, phase)
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
