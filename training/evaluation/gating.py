"""Fits the gates of a release: features of upright, turned and foreign images, and limits that few radiographs fail."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain as chain_of
from itertools import islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.gates import GateThresholds, Reason, TypicalityLimit
from services.core.domain.preprocess import HAND_PX, to_frame
from services.core.errors import InvalidRadiographError
from training.data.negatives import not_a_hand, tilted, turned
from training.data.radiographs import Radiograph, report_missing
from training.enhancement.hands import enhance, frame_masks, segmented_hand
from training.evaluation.typicality import NAMES
from training.models.enhancer import UNetGenerator
from training.models.ensemble import Reader
from training.models.segmenter import FCDenseNet
from training.models.served import by_thirds
from training.run.exits import BadConfigurationError
from training.run.precision import cpu_autocast

LOG = logging.getLogger(__name__)
Image = NDArray[np.float32]
REASONS: Final = (Reason.NOT_LIKE_TRAINING, Reason.NOT_UPRIGHT, Reason.NOT_LIKE_TRAINING, Reason.NOT_LIKE_TRAINING)


@dataclass(frozen=True, slots=True)
class Chain:
    """The three networks in the order of serving."""

    segmenter: FCDenseNet
    enhancer: UNetGenerator
    reader: Reader
    maximum_structure_change: float

    def features(self, hands: Image, *, batch_size: int = 8) -> NDArray[np.float32]:
        """`by_thirds` features (N, K) of prepared hands (N, S, S), averaged over image and mirror as in serving.

        Raises BadConfigurationError where there are none.
        """
        if not len(hands):
            raise BadConfigurationError("no hand is left to fit the gates on")
        self.reader.eval()
        parts = []
        for start in range(0, len(hands), batch_size):
            x = torch.from_numpy(hands[start : start + batch_size])[:, None]
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), cpu_autocast():
                both = [by_thirds(self.reader.features(side).float()) for side in (x, x.flip(3))]
            parts.append(((both[0] + both[1]) / 2).numpy())
        return np.concatenate(parts)

    def hands(self, images: Iterable[Image]) -> NDArray[np.float32]:
        """Prepared hands (N, S, S) of images (H, W) in [0, 1], a few at a time; zeros where there is no hand."""
        waiting = iter(images)
        result = []
        while frames := [to_frame(image) for image in islice(waiting, 32)]:
            masks = frame_masks(self.segmenter, frames)
            chunk = np.stack([segmented_hand(frame, mask) for frame, (_, mask) in zip(frames, masks, strict=True)])
            result.append(enhance(self.enhancer, chunk, maximum_structure_change=self.maximum_structure_change)[0])
        return np.concatenate(result) if result else np.zeros((0, HAND_PX, HAND_PX), np.float32)


def draw(
    frames: Iterable[tuple[int, Image]], change: Callable[[Image, np.random.Generator], Image], *, seed: int
) -> Iterator[Image]:
    """One changed image of each numbered frame."""
    return (change(frame, np.random.default_rng((seed, index))) for index, frame in frames)


def tilt(frame: Image, rng: np.random.Generator) -> Image:
    """A frame turned by up to 32 degrees, which must still be read."""
    return tilted(frame, float(rng.uniform(-32, 32)))


def fitting_sets(
    chain: Chain, radiographs: Sequence[Radiograph], *, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Features of upright hands (half of them tilted), of turned hands and of what is no hand, `count` of each draw.

    Radiographs that cannot be read are left out, named and counted. Raises BadConfigurationError where none is left.
    """
    chosen = np.random.default_rng(seed).permutation(len(radiographs))[: 4 * count]
    unread: list[str] = []

    def frames(place: int) -> Iterator[tuple[int, Image]]:
        for index in map(int, chosen[place * count : (place + 1) * count]):
            try:
                frame = radiographs[index].frame()
            except (InvalidRadiographError, OSError) as error:
                LOG.warning("%s: %s", radiographs[index].id, error)
                unread.append(radiographs[index].id)
            else:
                yield index, frame

    straight = (frame for _, frame in frames(0))
    upright = chain.features(chain.hands(chain_of(straight, draw(frames(1), tilt, seed=seed))))
    turns = chain.features(chain.hands(draw(frames(2), turned, seed=seed)))
    foreign = chain.hands(draw(frames(3), not_a_hand, seed=seed))
    report_missing("could not be read, and the gates are fitted without them", unread, of=len(chosen))
    return upright, turns, chain.features(foreign[foreign.any(axis=(1, 2))])


def thresholds(
    typicality: NDArray[np.float32],
    fraction: NDArray[np.float32],
    certainty: NDArray[np.float32],
    contrast: NDArray[np.float32],
    *,
    refused_share: float,
    turned_share: float,
    maximum_interval_width_months: float,
    maximum_structure_change: float,
) -> GateThresholds:
    """Limits that a share of `refused_share` of these real radiographs (N, ...) fails, one gate at a time.

    Of uprightness, which what is no hand fails as well, a share of `turned_share`.
    """

    def least(values: NDArray[np.float32], share: float = refused_share) -> float:
        return float(np.quantile(values, share, method="lower"))

    limits = tuple(
        TypicalityLimit(
            name, least(typicality[:, column], turned_share if reason is Reason.NOT_UPRIGHT else refused_share), reason
        )
        for column, (name, reason) in enumerate(zip(NAMES, REASONS, strict=True))
    )
    return GateThresholds(
        minimum_contrast=least(contrast) / 2,
        # A hand may be smaller on its plate than any that was seen; what it is, typicality tells.
        minimum_foreground_fraction=least(fraction) * 0.6,
        maximum_foreground_fraction=min(0.98, float(fraction.max()) * 1.05),
        # Below the least that was seen, so that one radiograph in two forms does not fall on both sides.
        minimum_mask_certainty=least(certainty) * 0.95,
        typicality=limits,
        maximum_interval_width_months=maximum_interval_width_months,
        maximum_structure_change=maximum_structure_change,
    )
