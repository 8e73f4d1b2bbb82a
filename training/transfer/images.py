"""Which images a step sees and in what form; a function of seed and step alone, so that any step can be done again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.augment import UNCHANGED, augment, draw_change

ROTATION_DEG: Final = 50.0
"""Beyond the 30 degrees by which a hand may be turned and still be read, so that these are not the rarest."""
OF_FILES: Final = 3
"""Tells the draw of the file from all else that is drawn by the same key."""
BAD_FILES_SHARE: Final = 1 / 3
"""How often what is augmented comes from a radiograph's bad file, where there is one."""
FILE: Final = ("overexposed", "blur", "resolution", "grey_range", "noise", "jpeg_quality")
"""What a `Change` says of the file."""
GOOD_FILE: Final[dict[str, Any]] = {name: getattr(UNCHANGED, name) for name in FILE}
BAD_FILES_MADE_WITH: Final = f"{BAD_FILES_SHARE}, none drawn"
"""Tells, of what was made with bad files, how they were drawn."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Images (M, S, S) uint8, which may be mapped from disk, and the row (N,) of each example; -1 where it has none."""

    source: NDArray[np.uint8]
    rows: NDArray[np.intp]

    def digest(self) -> bytes:
        """SHA-256 of the images and of which example each is."""
        digest = sha256(self.rows.tobytes())
        for row in self.rows[self.rows >= 0]:
            digest.update(self.source[row].tobytes())
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled images: `rows` (N,) of `source` (M, S, S) uint8, which may be mapped from disk, at `side_px` pixels.

    Labels (N,) are float32, sexes (N,) are columns of `SEX_ORDER`. `change`, where there is one, is made to each stored
    image as it is looked at. `bad_files` are the same radiographs from bad files, which are seen in training alone.
    """

    source: NDArray[np.uint8]
    rows: NDArray[np.intp]
    labels: NDArray[np.float32]
    sexes: NDArray[np.int64]
    side_px: int
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    bad_files: Stored | None = None

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.float32], sexes: NDArray[np.int64]) -> "Examples":
        """All of some square images as they are."""
        return cls(images, np.arange(len(images)), labels, sexes, images.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> NDArray[np.float32]:
        """One image (side_px, side_px) in [0, 1], area averaged where it is stored larger."""
        return self._seen(self.source[self.rows[index]])

    def augmented(self, index: int, key: tuple[int, ...]) -> NDArray[np.float32]:
        """One image (side_px, side_px) in [0, 1], changed as `key` draws it.

        Where there is its bad file, that is shown a third of the time, in place of what is else drawn of bad files.
        """
        change = draw_change(np.random.default_rng(key), rotation_deg=ROTATION_DEG)
        bad = self.bad_files
        if bad is None or bad.rows[index] < 0:
            return augment(self.image(index), change)
        of_bad_file = np.random.default_rng((*key, OF_FILES)).random() < BAD_FILES_SHARE
        image = self._seen(bad.source[bad.rows[index]]) if of_bad_file else self.image(index)
        return augment(image, replace(change, **GOOD_FILE))

    def _seen(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen = np.asarray(image) if self.change is None else self.change(np.asarray(image))
        if seen.shape[0] != self.side_px:
            seen = np.asarray(cv2.resize(seen, (self.side_px, self.side_px), interpolation=cv2.INTER_AREA), np.uint8)
        return seen.astype(np.float32) / np.float32(255)

    def take(self, chosen: NDArray[np.intp]) -> "Examples":
        """Some of them."""
        bad_files = self.bad_files and replace(self.bad_files, rows=self.bad_files.rows[chosen])
        rows, labels, sexes = self.rows[chosen], self.labels[chosen], self.sexes[chosen]
        return replace(self, rows=rows, labels=labels, sexes=sexes, bad_files=bad_files)

    def floats(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Images (B, 1, side_px, side_px) in [0, 1], unchanged."""
        return np.stack([self.image(int(index)) for index in indices])[:, None]

    def digest(self, *, augmented: bool = False) -> str:
        """SHA-256 of the stored images, the change to them and the size that they are seen at.

        Of what is `augmented` the bad files as well.
        """
        digest = sha256(f"{self.side_px} {getattr(self.change, '__qualname__', None)}".encode())
        for row in self.rows:
            digest.update(self.source[row].tobytes())
        if augmented and self.bad_files is not None:
            digest.update(BAD_FILES_MADE_WITH.encode() + self.bad_files.digest())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws `batch_size` images for each step: every image once an epoch, or with `bins` every bin equally often."""

    count: int
    batch_size: int
    seed: int
    bins: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.batch_size > self.count:
            raise ValueError(f"a batch of {self.batch_size} cannot be drawn from {self.count} images")

    def draw(self, step: int) -> NDArray[np.intp]:
        """Indices (batch_size,) of step `step`, counted from 1."""
        return self._balanced(step) if self.bins is not None else self._in_turn(step)

    def _balanced(self, step: int) -> NDArray[np.intp]:
        assert self.bins is not None
        rng = np.random.default_rng((self.seed, step))
        names, inverse, sizes = np.unique(self.bins, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        chosen = rng.integers(len(names), size=self.batch_size)
        return np.asarray(order[starts[chosen] + rng.integers(sizes[chosen])], np.intp)

    def _in_turn(self, step: int) -> NDArray[np.intp]:
        per_epoch = self.count // self.batch_size
        epoch, position = divmod(step - 1, per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        return order[position * self.batch_size : (position + 1) * self.batch_size]
