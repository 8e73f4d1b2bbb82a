"""Reads radiographs in the layout of the RSNA 2017 Pediatric Bone Age Challenge, aspect ratio restored.

Halabi SS et al., "The RSNA Pediatric Bone Age Machine Learning Challenge", Radiology 2018;290(2):498-503.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import FRAME_PX, to_frame
from services.core.errors import InvalidRadiographError

LABELS_CSV = "boneage-training-dataset.csv"
IMAGES_FOLDER = "boneage-training-dataset"
SIZES_CSV = "image-size.csv"


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled radiograph; `true_shape` is its height and width at acquisition, None where unknown."""

    id: str
    path: Path
    age_months: float
    male: bool
    true_shape: tuple[int, int] | None


def read_rsna(root: Path) -> list[Sample]:
    """All radiographs under `root` that have both a label and a file, in order of id."""
    sizes = {row["id"]: (int(row["height"]), int(row["width"])) for row in _rows(root / SIZES_CSV)}
    samples = [
        Sample(
            id=row["id"],
            path=root / IMAGES_FOLDER / f"{row['id']}.jpg",
            age_months=float(row["boneage"]),
            male=row["male"] == "True",
            true_shape=sizes.get(row["id"]),
        )
        for row in _rows(root / LABELS_CSV)
    ]
    return sorted((sample for sample in samples if sample.path.exists()), key=lambda sample: int(sample.id))


def read_grey(path: Path) -> NDArray[np.float32]:
    """An 8-bit image file as (H, W) float32 in [0, 1]."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise InvalidRadiographError("not an image that can be read", field=path.name)
    return grey.astype(np.float32) / np.float32(255)


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of radiographs, top left in one array (N, FRAME_PX, FRAME_PX) uint8, with their true shapes (N, 2)."""

    pixels: NDArray[np.uint8]
    shapes: NDArray[np.int32]

    def frame(self, index: int) -> NDArray[np.float32]:
        """The frame at `index`, (H, W) float32 in [0, 1]."""
        height, width = self.shapes[index]
        return self.pixels[index, :height, :width].astype(np.float32) / np.float32(255)


def load_frames(samples: Sequence[Sample], cache: Path) -> Frames:
    """All frames of `samples`, decoded once and kept in `cache` (an .npz that is rebuilt when the ids differ)."""
    ids = np.array([sample.id for sample in samples])
    if cache.exists():
        stored = np.load(cache)
        if np.array_equal(stored["ids"], ids):
            return Frames(stored["pixels"], stored["shapes"])
    pixels = np.zeros((len(samples), FRAME_PX, FRAME_PX), np.uint8)
    shapes = np.zeros((len(samples), 2), np.int32)
    for index, sample in enumerate(samples):
        frame = to_frame(read_grey(sample.path), true_shape=sample.true_shape)
        shapes[index] = frame.shape
        pixels[index, : frame.shape[0], : frame.shape[1]] = np.rint(frame * 255)
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(".partial.npz")
    np.savez(temporary, ids=ids, pixels=pixels, shapes=shapes)
    temporary.rename(cache)
    return Frames(pixels, shapes)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))
