"""Hand outlines drawn by people, with the radiograph each belongs to, in frame coordinates."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import SEGMENT_PX, crop_square, resize, segmenter_input, to_frame, whole
from training.data.rsna import read_grey


@dataclass(frozen=True, slots=True)
class MaskedRadiograph:
    """A frame (H, W) float32 with its true mask (H, W) bool."""

    id: str
    frame: NDArray[np.float32]
    mask: NDArray[np.bool_]


def read_masks(root: Path, true_shapes: dict[str, tuple[int, int] | None]) -> list[MaskedRadiograph]:
    """All pairs of `root`/image/ID.png and `root`/mask/ID.png, aspect restored, in order of id."""
    pairs = []
    for path in sorted((root / "mask").glob("*.png"), key=lambda path: int(path.stem)):
        frame = to_frame(read_grey(root / "image" / path.name), true_shape=true_shapes.get(path.stem))
        outline = (read_grey(path) > 0).astype(np.float32)
        mask = resize(outline, height=frame.shape[0], width=frame.shape[1]) >= 0.5
        pairs.append(MaskedRadiograph(path.stem, frame, mask))
    return pairs


def segmenter_pair(pair: MaskedRadiograph) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The segmenter's input and target, both (SEGMENT_PX, SEGMENT_PX)."""
    target = crop_square(pair.mask, whole(pair.mask), size_px=SEGMENT_PX)
    return segmenter_input(pair.frame), target
