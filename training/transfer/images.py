"""Which images a step sees and in what form; a function of seed and step alone, so that any step can be done again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.augment import augment, draw_change

ROTATION_DEG: Final = 50.0
"""Beyond the 30 degrees by which a hand may be turned and still be read, so that these are not the rarest."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled images: `rows` (N,) of `source` (M, S, S) uint8, which may be mapped from disk, at `side_px` pixels.

    Labels (N,) are float32, sexes (N,) are columns of `SEX_ORDER`. `change`, where there is one, is made to each stored
    image as it is looked at.
    """

    source: NDArray[np.uint8]
    rows: NDArray[np.intp]
    labels: NDArray[np.float32]
    sexes: NDArray[np.int64]
    side_px: int
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.float32], sexes: NDArray[np.int64]) -> "Examples":
        """All of some square images as they are."""
        return cls(images, np.arange(len(images)), labels, sexes, images.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> NDArray[np.float32]:
        """One image (side_px, side_px) in [0, 1], area averaged where it is stored larger."""
        stored = np.asarray(self.source[self.rows[index]])
        if self.change is not None:
            stored = self.change(stored)
        if stored.shape[0] != self.side_px:
            stored = cv2.resize(stored, (self.side_px, self.side_px), interpolation=cv2.INTER_AREA)
        return stored.astype(np.float32) / np.float32(255)

    def take(self, chosen: NDArray[np.intp]) -> "Examples":
        """Some of them."""
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen], sexes=self.sexes[chosen])

    def floats(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Images (B, 1, side_px, side_px) in [0, 1], unchanged."""
        return np.stack([self.image(int(index)) for index in indices])[:, None]

    def digest(self) -> str:
        """SHA-256 of the stored images, the change to them and the size that they are seen at."""
        digest = sha256(f"{self.side_px} {getattr(self.change, '__qualname__', None)}".encode())
        for row in self.rows:
            digest.update(self.source[row].tobytes())
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


def augmented(image: NDArray[np.float32], key: tuple[int, ...]) -> NDArray[np.float32]:
    """One image (S, S) in [0, 1], changed as drawn from `key`."""
    return augment(image, draw_change(np.random.default_rng(key), rotation_deg=ROTATION_DEG))
