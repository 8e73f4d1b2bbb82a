"""Trains the U-Net generator on degraded and original hands: `python -m training.jobs.enhancer --config FILE`."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.data.augment import apply_geometry, draw_change
from training.data.rows import Rows
from training.data.split import SPLIT_CSV, read_split
from training.enhancement.degrade import degrade, draw_degradation, quality
from training.jobs.command import JobConfig, command
from training.models.enhancer import UNetGenerator


class EnhancerConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card."""

    hands: Path
    split: Path = SPLIT_CSV
    out: Path
    seed: int
    gold_standard_images: int
    selection_images: int
    steps: int
    batch_size: int
    learning_rate: float
    validate_every: int


def gold_standard(config: EnhancerConfig) -> NDArray[np.uint8]:
    """The best segmented hands of the training part (N, S, S), best first."""
    prepared, parts = Rows.read(config.hands), read_split(config.split)
    train = [row for row, id_ in enumerate(prepared.ids) if prepared.done[row] and parts.get(id_) == "train"]
    hands = prepared.columns["segmented"]
    scores = np.array([quality(hands[row].astype(np.float32) / 255) for row in train])
    best = np.array(train)[np.argsort(-scores, kind="stable")[: config.gold_standard_images]]
    return np.asarray(hands[best])


def training_batch(
    hands: NDArray[np.uint8], rng: np.random.Generator, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Degraded and original hands, both (B, 1, S, S)."""
    inputs, targets = [], []
    for index in rng.integers(len(hands), size=batch_size):
        hand = apply_geometry(hands[index].astype(np.float32) / 255, draw_change(rng))
        inputs.append(degrade(hand, draw_degradation(rng)))
        targets.append(hand)
    return torch.from_numpy(np.stack(inputs)[:, None]), torch.from_numpy(np.stack(targets)[:, None])


def reconstruction_loss(generated: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Grey level and edges: L1 of the hands (B, 1, S, S) plus L1 of their first differences."""
    across = (generated - target).diff(dim=3).abs().mean()
    down = (generated - target).diff(dim=2).abs().mean()
    return functional.l1_loss(generated, target) + 2 * (across + down)


def run(config: EnhancerConfig) -> None:
    """Train; `last.pt` holds the weights, `log.jsonl` the error on degraded selection hands, and unenhanced."""
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    hands = gold_standard(config)
    order = rng.permutation(len(hands))
    selection, train = hands[order[: config.selection_images]], hands[order[config.selection_images :]]
    fixed = training_batch(selection, np.random.default_rng(0), config.selection_images)
    model = UNetGenerator().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    config.out.mkdir(parents=True, exist_ok=True)
    with (config.out / "log.jsonl").open("a", buffering=1) as log:
        for step in range(1, config.steps + 1):
            inputs, targets = training_batch(train, rng, config.batch_size)
            with torch.autocast("cpu", torch.bfloat16):
                generated = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = reconstruction_loss(generated.float(), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % config.validate_every == 0 or step == config.steps:
                model.eval()
                with torch.inference_mode():
                    error = float(functional.l1_loss(model(fixed[0]), fixed[1]))
                model.train()
                print(
                    json.dumps(
                        {
                            "step": step,
                            "loss": float(loss.detach()),
                            "selection_l1": error,
                            "selection_l1_without": float(functional.l1_loss(*fixed)),
                        }
                    ),
                    file=log,
                )
                torch.save({"model": model.state_dict(), "selection_l1": error}, config.out / "last.pt")


if __name__ == "__main__":
    command(EnhancerConfig, run, __doc__)
