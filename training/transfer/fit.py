"""Fits a regressor by staged unfreezing: head, then exit, middle and entry flow (paper 2.4), each from the one before.

Frozen modules stay in evaluation mode, so that their batch-norm statistics do not change by a byte.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.data.augment import augment, draw_change
from training.models.regressor import BoneAgeRegressor


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of unfreezing: what is trained beside the head, for how many epochs, up to which learning rate.

    `unknown_share` is the weight of the head's row for an unknown sex: the expectation of hiding the sex in that
    share of the images.
    """

    trainable: tuple[str, ...]
    epochs: int
    learning_rate: float
    final_fraction: float
    unknown_share: float


class HandImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Square uint8 hands (N, S, S), ages (N,) in months and sexes (N,) male; augmented anew for each epoch."""

    def __init__(
        self, images: NDArray[np.uint8], ages: NDArray[np.float32], male: NDArray[np.bool_], *, seed: int | None
    ) -> None:
        self.images, self.ages, self.male, self.seed, self.epoch = images, ages, male, seed, 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image = self.images[index].astype(np.float32) / 255
        if self.seed is not None:
            image = augment(image, draw_change(np.random.default_rng((self.seed, self.epoch, index))))
        return (
            torch.from_numpy(image)[None],
            torch.tensor(self.ages[index]),
            torch.tensor(0 if self.male[index] else 1),
        )


def freeze_but(model: BoneAgeRegressor, trainable: Sequence[str]) -> list[nn.Parameter]:
    """Freeze the backbone but for the stages named; return the parameters to train."""
    model.eval()
    model.requires_grad_(False)
    modules: list[nn.Module] = [model.head]
    for stage in trainable:
        modules += model.stage_modules(stage)
    for module in modules:
        module.train()
        module.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def batches(data: HandImages, *, batch_size: int, seed: int, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One shuffled epoch of training batches."""
    generator = torch.Generator().manual_seed(seed)
    yield from DataLoader(
        data, batch_size=batch_size, shuffle=True, drop_last=True, generator=generator, num_workers=workers
    )


def fit(
    model: BoneAgeRegressor,
    data: HandImages,
    stages: Sequence[Stage],
    *,
    batch_size: int,
    seed: int,
    workers: int,
    weight_decay: float,
    checkpoint: Path,
    report: Callable[[dict[str, float | str]], None],
    validate: Callable[[BoneAgeRegressor], dict[str, float]],
) -> None:
    """Run all `stages`, with a checkpoint after each epoch from which an interrupted run goes on."""
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        done = int(state["epochs_done"])
    epoch = 0
    for stage in stages:
        parameters = freeze_but(model, stage.trainable)
        optimiser = torch.optim.AdamW(parameters, lr=stage.learning_rate, weight_decay=weight_decay)
        steps = stage.epochs * (len(data) // batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_and_cosine(steps, stage.final_fraction))
        if checkpoint.exists() and done > epoch and done < epoch + stage.epochs:
            optimiser.load_state_dict(state["optimiser"])
            schedule.load_state_dict(state["schedule"])
        for _ in range(stage.epochs):
            epoch += 1
            if epoch <= done:
                continue
            freeze_but(model, stage.trainable)
            data.epoch = epoch
            started = perf_counter()
            loss = _epoch(
                model,
                batches(data, batch_size=batch_size, seed=seed + epoch, workers=workers),
                optimiser,
                schedule,
                report,
                unknown_share=stage.unknown_share,
            )
            model.eval()
            report(
                {
                    "epoch": epoch,
                    "stage": "+".join(stage.trainable) or "head",
                    "train_mae_months": loss,
                    **validate(model),
                    "seconds": perf_counter() - started,
                }
            )
            _save(checkpoint, model, optimiser, schedule, epoch)


def _epoch(
    model: BoneAgeRegressor,
    loader: Iterator[tuple[Tensor, Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    report: Callable[[dict[str, float | str]], None],
    *,
    unknown_share: float,
) -> float:
    total, seen = 0.0, 0
    for step, (images, ages, sexes) in enumerate(loader):
        with torch.autocast("cpu", torch.bfloat16):
            maps = model.features(images.contiguous(memory_format=torch.channels_last))
        predicted = model.ages(maps.float().mean(dim=(2, 3)))
        own = (predicted.gather(1, sexes[:, None])[:, 0] - ages).abs()
        unknown = (predicted[:, 2] - ages).abs()
        loss = ((1 - unknown_share) * own + unknown_share * unknown).mean() / 10
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        total, seen = total + float(own.detach().sum()), seen + len(ages)
        if step % 25 == 0:
            report({"step": step, "running_mae_months": total / seen})
    return total / max(seen, 1)


def predict(model: BoneAgeRegressor, images: NDArray[np.uint8], *, batch_size: int = 64) -> NDArray[np.float32]:
    """Ages in months (N, 3) of (N, S, S) uint8 hands, averaged over each image and its mirror."""
    model.eval()
    parts = []
    for start in range(0, len(images), batch_size):
        x = torch.from_numpy(images[start : start + batch_size].astype(np.float32) / 255)[:, None]
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            pooled = (model.features(x).float().mean((2, 3)) + model.features(x.flip(3)).float().mean((2, 3))) / 2
        with torch.inference_mode():
            parts.append(model.ages(pooled).numpy())
    return np.concatenate(parts)


def _warm_up_and_cosine(steps: int, final_fraction: float) -> Callable[[int], float]:
    """Linear warm-up over a tenth of the steps, then a cosine down to `final_fraction` of the rate."""
    warm_up = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        progress = min(1.0, (step - warm_up) / max(1, steps - warm_up))
        return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2

    return factor


def _save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    epochs_done: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(
        {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "epochs_done": epochs_done,
        },
        temporary,
    )
    temporary.rename(path)
