"""Which images a step sees and in what form; a function of seed and step alone, so that any step can be done again."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.augment import augment, draw_change


@dataclass(frozen=True, slots=True)
class Examples:
    """Square uint8 images (N, S, S), float32 labels (N,) and sexes (N,) as columns of `SEX_ORDER`."""

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    sexes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.intp]) -> "Examples":
        """Some of them."""
        return Examples(self.images[indices], self.labels[indices], self.sexes[indices])

    def resized(self, side_px: int) -> "Examples":
        """The same at another size, area averaged."""
        if self.images.shape[1] == side_px:
            return self
        small = np.zeros((len(self), side_px, side_px), np.uint8)
        for row, image in enumerate(self.images):
            small[row] = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)
        return Examples(small, self.labels, self.sexes)

    def floats(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Images (B, 1, S, S) in [0, 1], unchanged."""
        return np.asarray(self.images[indices], np.float32)[:, None] / np.float32(255)


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


def augmented(image: NDArray[np.uint8], key: tuple[int, ...]) -> NDArray[np.float32]:
    """One image (S, S) in [0, 1], changed as drawn from `key`."""
    return augment(image.astype(np.float32) / np.float32(255), draw_change(np.random.default_rng(key)))
