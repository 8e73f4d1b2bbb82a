"""Prepares the hands of all radiographs once, segmented and enhanced: `python -m training.jobs.hands --config FILE`.

Without an enhancer in the configuration it stops after segmentation (what the enhancer is trained on).
"""

import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.gates import mask_certainty
from services.core.domain.preprocess import HAND_PX, SEGMENT_PX
from training.data.rsna import load_frames, read_rsna
from training.data.split import SHARES, Part, read_split
from training.enhancement.hands import enhance, frame_masks, load_enhancer, load_segmenter, segmented_hand
from training.jobs.command import JobConfig, command

SHARD: Final = 100
_WORKER: dict[str, Any] = {}


class HandsConfig(JobConfig):
    """Which models prepare the hands, and where they go."""

    data: Path
    cache: Path
    segmenter: Path
    enhancer: Path | None = None
    maximum_structure_change: float = 1.0
    segment_px_train: int = SEGMENT_PX
    processes: int = 2
    parts: tuple[Part, ...] = tuple(SHARES)


def segment_all(config: HandsConfig, ids: NDArray[np.str_], parts: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Segmented hands (N, HAND_PX, HAND_PX), from the cache where it holds them.

    The work is cut into shards that stay on disk until all are there, so that a killed run goes on where it was.
    """
    path = config.cache / "segmented.npz"
    if path.exists():
        stored = np.load(path)
        if np.array_equal(stored["ids"], ids):
            hands: NDArray[np.uint8] = stored["hands"]
            return hands
    # Only training images may be segmented at less than full size: the others measure what is served.
    shards = [
        (size_px, chosen[start : start + SHARD])
        for chosen, size_px in (
            (np.flatnonzero(np.isin(parts, config.parts) & (parts != "train")), SEGMENT_PX),
            (np.flatnonzero(np.isin(parts, config.parts) & (parts == "train")), config.segment_px_train),
        )
        for start in range(0, len(chosen), SHARD)
    ]
    hands = np.zeros((len(ids), HAND_PX, HAND_PX), np.uint8)
    fraction, certainty = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.processes, mp_context=context, initializer=_begin, initargs=(config,)) as pool:
        for done, (indices, found) in enumerate(zip((s[1] for s in shards), pool.map(_shard, shards), strict=True)):
            hands[indices], fraction[indices], certainty[indices] = (
                found["hands"],
                found["fraction"],
                found["certainty"],
            )
            print(json.dumps({"shards": done + 1, "of": len(shards)}), flush=True)
    _save(path, ids=ids, hands=hands, fraction=fraction, certainty=certainty)
    shutil.rmtree(config.cache / "shards")
    return hands


def _begin(config: HandsConfig) -> None:
    """Give a worker process its networks: one thread each, since small batches on one core are the fastest."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _WORKER["folder"] = config.cache / "shards"
    _WORKER["model"] = load_segmenter(config.segmenter)
    _WORKER["frames"] = load_frames(read_rsna(config.data), config.cache / "frames.npz")


def _shard(shard: tuple[int, NDArray[np.intp]]) -> dict[str, NDArray[np.generic]]:
    size_px, indices = shard
    path: Path = _WORKER["folder"] / f"{size_px}-{indices[0]}-{indices[-1]}.npz"
    if not path.exists():
        frames = _WORKER["frames"]
        hands, fraction, certainty = [], [], []
        for index, probability, mask in frame_masks(
            _WORKER["model"], frames, indices, segment_px=size_px, batch_size=2
        ):
            hands.append(np.rint(segmented_hand(frames.frame(index), mask) * 255).astype(np.uint8))
            fraction.append(mask.mean())
            certainty.append(mask_certainty(probability, mask))
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(path, hands=np.stack(hands), fraction=np.array(fraction), certainty=np.array(certainty))
    return dict(np.load(path))


def run(config: HandsConfig) -> None:
    """Segment, then enhance where an enhancer is given."""
    cv2.setNumThreads(1)
    samples = read_rsna(config.data)
    ids = np.array([sample.id for sample in samples])
    split = read_split()
    hands = segment_all(config, ids, np.array([split[sample.id] for sample in samples]))
    if config.enhancer is None:
        return
    model = load_enhancer(config.enhancer)
    changes = np.zeros(len(ids), np.float32)
    prepared = np.flatnonzero(hands.any(axis=(1, 2)))
    for start in range(0, len(prepared), 8):
        rows = prepared[start : start + 8]
        before = np.asarray(hands[rows], np.float32) / np.float32(255)
        result, changes[rows] = enhance(model, before, maximum_structure_change=config.maximum_structure_change)
        hands[rows] = np.rint(result * 255)
        if start % 1024 == 0:
            print(json.dumps({"enhanced": start, "of": len(prepared)}), flush=True)
    _save(config.cache / "hands.npz", ids=ids, hands=hands, structure_change=changes)


def _save(path: Path, **arrays: NDArray[np.generic]) -> None:
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.rename(path)


if __name__ == "__main__":
    command(HandsConfig, run, __doc__)
