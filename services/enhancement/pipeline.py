"""From a radiograph and its mask to the prepared hand that the regression reads (paper 2.2 and 2.3)."""

from dataclasses import dataclass, replace

import numpy as np

from services.core.domain.contracts import ENHANCER
from services.core.domain.gates import GateThresholds, structure_change
from services.core.domain.geometry import scale_square
from services.core.domain.polarity import positive
from services.core.domain.ports import Inference
from services.core.domain.preprocess import Image, Mask, Square, hand_image, resize, to_frame
from services.core.domain.reading import ModelVersion
from services.core.domain.release import Release
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers


@dataclass(frozen=True, slots=True)
class Hand:
    """The segmented hand (HAND_PX, HAND_PX) in [0, 1]; `crop` is the square of the radiograph that it shows.

    Of a `negative` it is the positive.
    """

    image: Image
    crop: Square
    negative: bool


@dataclass(frozen=True, slots=True)
class Enhancement:
    """The prepared hand: as the generator made it where it is `enhanced`, else as it was."""

    hand: Hand
    enhanced: bool
    structure_change: float
    model: ModelVersion


class EnhancementPipeline:
    """Prepares a hand, and keeps it as it was where the generator would change its structure."""

    def __init__(self, inference: Inference, workers: Workers) -> None:
        self._inference = inference
        self._workers = workers

    async def enhance(
        self,
        pixels: Image,
        mask: Mask,
        *,
        true_shape: tuple[int, int] | None,
        release: Release,
        deadline: Deadline,
    ) -> Enhancement:
        """Prepare the hand of (H, W) pixels in [0, 1] inside `mask` (H, W). Raises InvalidRadiographError if empty."""
        model = ModelVersion(ENHANCER, release.models[ENHANCER])
        hand = await self._workers.run(prepare, pixels, mask, true_shape)
        outputs = await self._inference.infer(
            model.name, model.version, {"hand": hand.image[None, None]}, timeout_s=deadline.left_s()
        )
        return await self._workers.run(conclude, hand, outputs["enhanced"][0, 0], release.gates, model)


def prepare(pixels: Image, mask: Mask, true_shape: tuple[int, int] | None) -> Hand:
    """The hand of (H, W) pixels inside a mask (H, W)."""
    frame = to_frame(pixels, true_shape=true_shape)
    on_frame = np.asarray(resize(mask, height=frame.shape[0], width=frame.shape[1]) >= 0.5, np.bool_)  # noqa: PLR2004
    shown = positive(frame, on_frame)
    image, square = hand_image(shown, on_frame)
    return Hand(image, scale_square(square, source=frame.shape, target=pixels.shape), negative=shown is not frame)


def conclude(hand: Hand, generated: Image, gates: GateThresholds, model: ModelVersion) -> Enhancement:
    """The generated hand where it keeps the structure of `hand`, and `hand` itself where it does not."""
    change = structure_change(hand.image, generated)
    enhanced = change <= gates.maximum_structure_change
    return Enhancement(replace(hand, image=generated) if enhanced else hand, enhanced, change, model)
