"""Prepares the hands of all radiographs once, segmented and then enhanced: `python -m training.jobs.hands --config FILE`.

Without an enhancer in the configuration it stops after segmentation (what the enhancer is trained on).
"""

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.gates import mask_certainty
from services.core.domain.preprocess import HAND_PX, SEGMENT_PX
from training.data.hands import enhance, frame_masks, load_enhancer, load_segmenter, segmented_hand
from training.data.rsna import load_frames, read_rsna
from training.data.split import read_split
from training.jobs.command import JobConfig, command


class HandsConfig(JobConfig):
    """Which models prepare the hands, and where they go."""

    data: Path
    cache: Path
    segmenter: Path
    enhancer: Path | None = None
    maximum_structure_change: float = 1.0
    segment_px_train: int = SEGMENT_PX


def segment_all(config: HandsConfig, ids: NDArray[np.str_], parts: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Segmented hands (N, HAND_PX, HAND_PX), from the cache where it holds them."""
    path = config.cache / "segmented.npz"
    if path.exists():
        stored = np.load(path)
        if np.array_equal(stored["ids"], ids):
            hands: NDArray[np.uint8] = stored["hands"]
            return hands
    model = load_segmenter(config.segmenter)
    frames = load_frames(read_rsna(config.data), config.cache / "frames.npz")
    hands = np.zeros((len(ids), HAND_PX, HAND_PX), np.uint8)
    fraction, certainty = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
    # Only training images may be segmented at less than full size: the others measure what is served.
    for chosen, size_px in (
        (np.flatnonzero(parts != "train"), SEGMENT_PX),
        (np.flatnonzero(parts == "train"), config.segment_px_train),
    ):
        for done, (index, probability, mask) in enumerate(frame_masks(model, frames, chosen, segment_px=size_px)):
            hands[index] = np.rint(segmented_hand(frames.frame(index), mask) * 255)
            fraction[index], certainty[index] = mask.mean(), mask_certainty(probability, mask)
            if done % 200 == 0:
                print(json.dumps({"segment_px": size_px, "done": done, "of": len(chosen)}), flush=True)
    _save(path, ids=ids, hands=hands, fraction=fraction, certainty=certainty)
    return hands


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
    for start in range(0, len(ids), 32):
        rows = slice(start, start + 32)
        result, changes[rows] = enhance(
            model, hands[rows].astype(np.float32) / 255, maximum_structure_change=config.maximum_structure_change
        )
        hands[rows] = np.rint(result * 255)
        if start % 1024 == 0:
            print(json.dumps({"enhanced": start, "of": len(ids)}), flush=True)
    _save(config.cache / "hands.npz", ids=ids, hands=hands, structure_change=changes)


def _save(path: Path, **arrays: NDArray[np.generic]) -> None:
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, allow_pickle=False, **arrays)
    temporary.rename(path)


if __name__ == "__main__":
    command(HandsConfig, run, __doc__)
