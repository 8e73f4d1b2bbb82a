"""Trains one segmenter on outlined radiographs, step by step, for `training.run.steps`."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import resize
from training.data.augment import apply_geometry, apply_intensity, draw_change, store
from training.data.rows import as_bytes
from training.data.scenes import draw_scene_change, draw_surroundings
from training.models.segmenter import FCDenseNet, segmentation_loss
from training.run.precision import cpu_autocast
from training.run.schedule import cosine_rate

Image = NDArray[np.float32]
GRADIENT_NORM: Final = 5.0


@dataclass(frozen=True, slots=True)
class Phase:
    """Some steps at one image size and top learning rate."""

    size_px: int
    steps: int
    batch_size: int
    learning_rate: Annotated[float, Field(gt=0)]

    def __post_init__(self) -> None:
        if self.size_px % 8 or min(self.size_px, self.steps, self.batch_size) < 1:
            raise ValueError(f"a phase has at least one step and image, and a size that 8 divides, not {self}")


@dataclass(frozen=True, slots=True)
class Outlines:
    """Segmenter inputs `images` (N, S, S) uint8 and their masks (N, S, S) bool, of which `rows` (n,) are meant.

    The arrays may be mapped from disk: a row is read when it is asked for.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    rows: NDArray[np.intp]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Image, NDArray[np.bool_]]]) -> "Outlines":
        """Pairs of an image in [0, 1] and its mask, held in memory."""
        images, masks = zip(*((as_bytes(image), mask.astype(bool)) for image, mask in pairs), strict=True)
        return cls(np.stack(images), np.stack(masks), np.arange(len(images)))

    def __len__(self) -> int:
        return len(self.rows)

    def pair(self, index: int) -> tuple[Image, NDArray[np.bool_]]:
        """An image in [0, 1] and its mask."""
        row = self.rows[index]
        return self.images[row].astype(np.float32) / np.float32(255), np.asarray(self.masks[row])

    def chosen(self, indices: NDArray[np.intp]) -> "Outlines":
        """Some of them."""
        return replace(self, rows=self.rows[indices])


class SegmenterLearner:
    """The learner of `training.run.steps`; the best weights on `selection` are in `best`.

    Each of `sources` gives as many images to a batch as the others, whatever its size. They are shown in other `scenes`
    and files, or only in other poses.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sources: Sequence[Outlines],
        selection: Outlines,
        phases: Sequence[Phase],
        validate_every: int,
        seed: int,
        scenes: bool = True,
    ) -> None:
        self.changed = scene if scenes else pose
        self.network = network.to(memory_format=torch.channels_last)
        self.sources, self.selection = tuple(sources), selection
        self.phases, self.validate_every, self.seed = tuple(phases), validate_every, seed
        self.ends = list(accumulate(phase.steps for phase in phases))
        self.score, self.best_of, self.best = -1.0, 0, copy.deepcopy(network.state_dict())
        self.optimiser = self._fresh_optimiser()

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return self.ends[-1]

    def _fresh_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=0.0, weight_decay=1e-4)

    def step(self, step: int) -> dict[str, float]:
        """One batch; validates every `validate_every` steps and at the end of each phase."""
        torch.manual_seed(self.seed * 1_000_003 + step)
        index = next(i for i, end in enumerate(self.ends) if step <= end)
        phase = self.phases[index]
        into = step - (self.ends[index] - phase.steps)
        if into == 1:
            self.optimiser = self._fresh_optimiser()
        rate = cosine_rate(into / phase.steps, top=phase.learning_rate, warm_up=0.3)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        images, masks = self.batch(step, phase)
        with cpu_autocast():
            logits = self.network(images)
        loss = segmentation_loss(logits.float(), masks)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.optimiser.step()
        figures = {"size_px": float(phase.size_px), "loss": float(loss.detach()), "learning_rate": rate}
        if step % self.validate_every and step != self.ends[index]:
            return figures
        mean, least = mean_dice(self.network, self.selection, size_px=phase.size_px)
        # A phase at a small size only prepares the next: its best is no rival of that one's.
        if mean > self.score or index != self.best_of:
            self.score, self.best_of, self.best = mean, index, copy.deepcopy(self.network.state_dict())
        return figures | {"validation_dice": mean, "validation_dice_min": least}

    def batch(self, step: int, phase: Phase) -> tuple[torch.Tensor, torch.Tensor]:
        """The augmented images and masks of a step, both (B, 1, size_px, size_px), drawn from its number."""
        rng = np.random.default_rng((self.seed, step))
        images, masks = [], []
        for place in range(phase.batch_size):
            outlines = self.sources[place % len(self.sources)]
            image, mask = self.changed(*outlines.pair(int(rng.integers(len(outlines)))), rng)
            images.append(resize(image, height=phase.size_px, width=phase.size_px))
            masks.append(resize(mask, height=phase.size_px, width=phase.size_px) >= 0.5)
        return (
            torch.from_numpy(np.stack(images)[:, None]).contiguous(memory_format=torch.channels_last),
            torch.from_numpy(np.stack(masks)[:, None].astype(np.float32)),
        )

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "score": self.score,
                "best_of": self.best_of, "best": self.best}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.score, self.best_of, self.best = state["score"], state["best_of"], state["best"]


def scene(image: Image, mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """An image and its mask (S, S) in another pose, exposure, surrounding and file."""
    change = draw_scene_change(rng)
    moved = apply_geometry(mask.astype(np.float32), change) >= 0.5
    surrounded = draw_surroundings(apply_intensity(apply_geometry(image, change), change), moved, rng)
    return store(surrounded, change), moved


def pose(image: Image, mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Image, NDArray[np.bool_]]:
    """An image and its mask (S, S) in another pose and contrast."""
    change = draw_change(rng, rotation_deg=20.0)
    moved = apply_geometry(mask.astype(np.float32), change, nearest=True) >= 0.5
    return apply_intensity(apply_geometry(image, change), change), moved


def coarser(image: Image) -> Image:
    """(S, S) as it comes from a smaller, compressed file: what must not change a mask."""
    return store(image, replace(draw_scene_change(np.random.default_rng(0)), resolution=0.6, jpeg_quality=40))


def probability(network: nn.Module, images: Image) -> Image:
    """Probability of the hand (B, S, S) in images (B, S, S)."""
    batch = torch.from_numpy(np.ascontiguousarray(images))[:, None].contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), cpu_autocast():
        found: Image = network(batch).float().sigmoid().numpy()[:, 0]
    return found


def mean_dice(network: nn.Module, outlines: Outlines, *, size_px: int) -> tuple[float, float]:
    """Mean and smallest Dice of the final mask (Otsu, largest component, filled), images as they are and coarser."""
    was = network.training
    network.eval()
    scores = []
    for index in range(len(outlines)):
        image, mask = outlines.pair(index)
        true = resize(mask, height=size_px, width=size_px) >= 0.5
        for form in (image, coarser(image)):
            seen = resize(form, height=size_px, width=size_px)
            scores.append(dice(hand_mask(probability(network, seen[None])[0]), true))
    network.train(was)
    return float(np.mean(scores)), float(np.min(scores))


def new_network(seed: int) -> FCDenseNet:
    """A segmenter with weights drawn from a seed."""
    torch.manual_seed(seed)
    return FCDenseNet()
