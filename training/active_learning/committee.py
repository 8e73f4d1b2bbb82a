"""What the members of a committee say together: the mean of their probabilities, and the outline that follows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import uncrop_square, whole
from training.active_learning.learner import Outlines, probability
from training.active_learning.sight import Frame, network_input
from training.models.segmenter import FCDenseNet


def committee_probability(members: Sequence[FCDenseNet], image: Frame) -> Frame:
    """Mean probability (S, S) of the members."""
    return np.mean([probability(member, image[None])[0] for member in members], axis=0, dtype=np.float32)


def committee_dice(members: Sequence[FCDenseNet], outlines: Outlines) -> float:
    """Mean Dice of the committee's final masks."""
    pairs = [outlines.pair(index) for index in range(len(outlines))]
    return float(np.mean([dice(hand_mask(committee_probability(members, image)), mask) for image, mask in pairs]))


def suggestion(members: Sequence[FCDenseNet], frame: Frame, size_px: int) -> NDArray[np.bool_]:
    """The committee's own outline of a frame (H, W)."""
    found = committee_probability(members, network_input(frame, size_px))
    return hand_mask(uncrop_square(found, whole(frame), height=frame.shape[0], width=frame.shape[1]))
