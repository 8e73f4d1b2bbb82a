"""What keeping the maps of frozen flows saves, stage by stage, against computing them again from the same copies.

    python -m benchmarks.prefix_cache --config training/configs/prefix_cache.yaml [--images N] [--epochs N] [--out FILE]

The configuration is that of a transfer job; of its stages each that is cached is trained on its own from the job's
weights, on the first N images, once with the cache and once without. Both take turns, epoch by epoch, each with its
validation, so that they meet the same machine. Epochs in which a map was missing are those that fill the cache: with
one copy that is the first, with more it takes several. An epoch that is not timed comes before all.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Final

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from training.jobs.command import read_config
from training.jobs.source import network
from training.jobs.transfer import TransferConfig, learner
from training.transfer.devices import Device, choose_device
from training.transfer.images import Examples
from training.transfer.learner import StagedLearner
from training.transfer.stages import Stage

VALIDATION: Final = "validation_"


@dataclass(frozen=True, slots=True)
class Saving:
    """One stage: seconds an epoch with its validation, how many times faster, and how far the two curves are apart.

    The curves are those of what selects: the validation MAE in months, of classes the cross-entropy.
    """

    stage: str
    images: int
    copies: int
    cache_mb: float
    recomputed_s: float
    filling_s: float
    cached_s: float
    filling_ratio: float
    ratio: float
    curves_apart: float


def saving(config: TransferConfig, stage: Stage, parts: tuple[Examples, Examples], *, epochs: int) -> Saving:
    """Train one stage in both ways from the same weights."""
    device = choose_device(precision=config.precision, kind=config.device)
    with tempfile.TemporaryDirectory() as folder:
        both = [
            _staged(config, replace(stage, cached=cached), parts, device, Path(folder), epochs)
            for cached in (False, True)
        ]
        took_s: list[list[float]] = [[], []]
        curves: list[list[float]] = [[], []]
        filled = [0]
        steps = len(parts[0]) // config.fitting.batch_size
        warm = _staged(config, replace(stage, cached=False), parts, device, Path(folder), 1)
        for step in range(steps):
            warm.step(step + 1)
        for epoch in range(epochs):
            for number in (0, 1) if epoch % 2 else (1, 0):
                learning = both[number]
                began_s = perf_counter()
                figures = [learning.step(epoch * steps + step + 1) for step in range(steps)]
                took_s[number].append(perf_counter() - began_s)
                curves[number].append(selected(learning, figures))
            filled.append(sum(int(np.fromfile(path, np.bool_).sum()) for path in Path(folder).glob("*.rows")))
        size = sum(path.stat().st_blocks * 512 for path in Path(folder).glob("*.maps"))
    full = [took for took, new in zip(took_s[1], np.diff(filled), strict=True) if not new]
    if not full:
        raise SystemExit(f"{stage.name}: {epochs} epochs only filled the cache; take more --epochs, or fewer copies")
    recomputed_s, cached_s = float(np.median(took_s[0])), float(np.median(full))
    apart = max(abs(one - other) for one, other in zip(*curves, strict=True))
    return Saving(
        stage.name, len(parts[0]), stage.copies or 1, size / 1e6, recomputed_s, took_s[1][0], cached_s,
        filling_ratio=took_s[0][0] / took_s[1][0], ratio=recomputed_s / cached_s, curves_apart=apart,
    )  # fmt: skip


def selected(learning: StagedLearner, figures: Sequence[dict[str, float]]) -> float:
    """What of an epoch's last validation chooses between two states of the weights."""
    last = [each for each in figures if any(name.startswith(VALIDATION) for name in each)][-1]
    return learning.target.selection({name.removeprefix(VALIDATION): value for name, value in last.items()})


def _staged(
    config: TransferConfig, stage: Stage, parts: tuple[Examples, Examples], device: Device, cache: Path, epochs: int
) -> StagedLearner:
    train, validation = parts
    whole = len(train) // config.fitting.batch_size * config.fitting.batch_size
    stage = replace(stage, images=epochs * whole, patience=None)
    return StagedLearner(
        network(config.backbone, config.weights, config.target, seed=config.fitting.seed, images=train),
        train=train,
        validation=validation,
        target=config.target,
        stages=[stage],
        fitting=replace(config.fitting, validate_every=whole),
        device=device,
        cache=cache,
    )


def main() -> None:
    """Measure every cached stage, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("build/prefix-cache.json"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    config = read_config(TransferConfig, arguments.config)
    if arguments.images // 4 < 1 or arguments.images < config.fitting.batch_size:
        parser.error(f"--images: less than a batch of {config.fitting.batch_size}")
    device = choose_device(precision=config.precision, kind=config.device)
    base = learner(config, device, config.source.dataset.read())
    parts = (
        base.train.take(np.arange(min(arguments.images, len(base.train)))),
        base.validation.take(np.arange(min(arguments.images // 4, len(base.validation)))),
    )
    found = [saving(config, stage, parts, epochs=arguments.epochs) for stage in config.stages if stage.cached]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    table = Table(*(field.name.replace("_", " ") for field in fields(Saving)), title=config.backbone)
    for each in found:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in asdict(each).values()))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
