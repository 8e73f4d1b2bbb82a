"""Hand outlines drawn by people, with the radiograph each belongs to, in frame coordinates."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from services.core.adapters.model_repository import preprocessing_sha256
from services.core.domain.preprocess import SEGMENT_PX, crop_square, resize, segmenter_input, whole
from services.core.errors import InvalidRadiographError
from training.data.radiographs import image_files, natural, read_frame, read_pixels
from training.run.exits import BadConfigurationError


@dataclass(frozen=True, slots=True)
class MaskedRadiograph:
    """A frame (H, W) float32 with its true mask (H, W) bool."""

    id: str
    frame: NDArray[np.float32]
    mask: NDArray[np.bool_]


def outlined(root: Path) -> list[str]:
    """Ids of the masks `root`/mask/ID.*, in order. Raises BadConfigurationError where one has no `root`/image/ID.*."""
    masks, images = image_files(root / "mask"), image_files(root / "image")
    if alone := sorted(masks.keys() - images.keys(), key=natural):
        raise BadConfigurationError(f"{root}: {len(alone)} masks without a radiograph: {', '.join(alone[:5])}")
    return sorted(masks, key=natural)


def read_masks(
    root: Path, true_shapes: Mapping[str, tuple[int, int] | None], *, only: Container[str] | None = None
) -> Iterator[MaskedRadiograph]:
    """Pairs of `root`/image/ID.* and `root`/mask/ID.*, aspect restored, in order of id; all, or `only` these.

    One after another: memory holds those that are kept. Raises BadConfigurationError as `outlined` does, or where a
    file cannot be read.
    """
    ids = outlined(root)
    masks, images = image_files(root / "mask"), image_files(root / "image")
    for id_ in ids:
        if only is None or id_ in only:
            try:
                frame = read_frame(images[id_], true_shapes.get(id_))
                outline = (read_pixels(masks[id_]) > 0).astype(np.float32)
            except InvalidRadiographError as error:
                raise BadConfigurationError(f"{root}: {id_}: {error}") from error
            mask = resize(outline, height=frame.shape[0], width=frame.shape[1]) >= 0.5
            yield MaskedRadiograph(id_, frame, mask)


def outlines_digest(root: Path, ids: Sequence[str], true_shapes: Mapping[str, tuple[int, int]]) -> str:
    """SHA-256 of the files of these outlines and radiographs, in this order, and of what is made of them."""
    seen = sha256(f"{preprocessing_sha256()} {[(id_, true_shapes.get(id_)) for id_ in ids]}".encode())
    for files in (image_files(root / "image"), image_files(root / "mask")):
        for id_ in ids:
            seen.update(files[id_].read_bytes())
    return seen.hexdigest()


def segmenter_pair(pair: MaskedRadiograph) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The segmenter's input and target, both (SEGMENT_PX, SEGMENT_PX)."""
    target = crop_square(pair.mask, whole(pair.mask), size_px=SEGMENT_PX)
    return segmenter_input(pair.frame), target


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """The labels (H, W) of a PNG file that stores them as grey levels or as indices of its palette.

    Raises BadConfigurationError where it is neither.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P"):
                raise BadConfigurationError(f"{path}: a map of labels has one channel, not {image.mode}")
            return np.asarray(image, np.uint8)
    except (OSError, UnidentifiedImageError) as error:
        raise BadConfigurationError(f"{path}: {error}") from error
