"""From a radiograph to the hand's mask, or to the reason why there is none (paper 2.1)."""

from dataclasses import dataclass

import numpy as np

from services.core.domain.contracts import SEGMENTER
from services.core.domain.gates import Abstention, GateThresholds, Reason, check_contrast, check_mask, mask_certainty
from services.core.domain.polarity import inverted, is_negative
from services.core.domain.ports import Inference
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import (
    Image,
    Mask,
    Square,
    hand_square,
    resize,
    segmenter_input,
    to_frame,
    uncrop_square,
    whole,
)
from services.core.domain.reading import ModelVersion
from services.core.domain.release import Release
from services.core.domain.upright import DOUBTFUL, QUARTERS, in_quarters, surest_turn
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The hand in a radiograph (H, W): `mask` and `crop` are in its pixels; no crop where the mask is empty."""

    mask: Mask
    crop: Square | None
    foreground_fraction: float
    abstention: Abstention | None
    model: ModelVersion


@dataclass(frozen=True, slots=True)
class Found:
    """What the network found in a frame (h, w), whose hand may be dark on bright."""

    probability: Image
    mask: Mask
    negative: bool
    certainty: float


class SegmentationPipeline:
    """Finds the hand."""

    def __init__(self, inference: Inference, workers: Workers) -> None:
        self._inference = inference
        self._workers = workers

    async def segment(
        self, pixels: Image, *, true_shape: tuple[int, int] | None, release: Release, deadline: Deadline
    ) -> Segmentation:
        """Segment (H, W) pixels in [0, 1]; `true_shape` is their height and width before they were squashed.

        A negative is segmented again as its positive, and what the network doubts in each quarter turn: it knows
        positives with their fingers up best.
        """
        model = ModelVersion(SEGMENTER, release.models[SEGMENTER])
        frame, batch = await self._workers.run(prepare, pixels, true_shape)
        found = await self._workers.run(find, frame, await self._probability(model, batch, deadline))
        if found.negative:
            positive = await self._workers.run(prepare_negative, frame)
            again = await self._workers.run(find, frame, await self._probability(model, positive, deadline))
            found, batch = (again, positive) if again.negative else (found, batch)
        if found.certainty < DOUBTFUL:
            turns = [found] + [
                await self._workers.run(find, frame, await self._probability(model, view[None], deadline), quarter)
                for quarter, view in zip(QUARTERS, in_quarters(batch), strict=True)
            ]
            found = turns[surest_turn([one.certainty for one in turns], [float(one.mask.mean()) for one in turns])]
        return await self._workers.run(conclude, frame, found, pixels.shape, release.gates, model)

    async def _probability(self, model: ModelVersion, batch: Image, deadline: Deadline) -> Image:
        inputs = {"radiograph": batch}
        outputs = await self._inference.infer(model.name, model.version, inputs, timeout_s=deadline.left_s())
        return np.asarray(outputs["hand_probability"][0, 0])


def prepare(pixels: Image, true_shape: tuple[int, int] | None) -> tuple[Image, Image]:
    """The frame (h, w) of (H, W) pixels, and the segmenter's input (1, 1, S, S)."""
    frame = to_frame(pixels, true_shape=true_shape)
    return frame, segmenter_input(frame)[None, None]


def prepare_negative(frame: Image) -> Image:
    """The segmenter's input (1, 1, S, S) for a frame (h, w) that is a negative."""
    return segmenter_input(inverted(frame))[None, None]


def find(frame: Image, probability: Image, quarter: int = 0) -> Found:
    """The hand of a frame (h, w) from the network's probability (S, S), which saw it in that quarter turn."""
    square = np.rot90(probability, -quarter)
    on_frame = uncrop_square(square, whole(frame), height=frame.shape[0], width=frame.shape[1])
    mask = hand_mask(on_frame)
    return Found(on_frame, mask, is_negative(frame, mask), mask_certainty(on_frame, mask))


def conclude(
    frame: Image, found: Found, shape: tuple[int, ...], gates: GateThresholds, model: ModelVersion
) -> Segmentation:
    """What was found in a frame (h, w), brought to the radiograph's `shape` (H, W)."""
    mask = scale_mask(found.mask, height=shape[0], width=shape[1])
    low_contrast = check_contrast(inverted(frame) if found.negative else frame, gates)
    return Segmentation(
        mask=mask,
        crop=hand_square(mask) if mask.any() else None,
        foreground_fraction=float(mask.mean()),
        abstention=low_contrast or check_mask(found.probability, found.mask, gates) or check_not_empty(mask),
        model=model,
    )


def check_not_empty(mask: Mask) -> Abstention | None:
    """Refuse an empty mask, whatever the release's limits let through: there is nothing to crop to."""
    return None if mask.any() else Abstention(Reason.NO_HAND, "the mask is empty")


def scale_mask(mask: Mask, *, height: int, width: int) -> Mask:
    """A mask (h, w) at another size: what is covered by half or more stays covered."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(resize(mask, height=height, width=width) >= 0.5, dtype=np.bool_)  # noqa: PLR2004 -- a half
