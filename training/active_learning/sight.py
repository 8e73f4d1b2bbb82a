"""Radiographs and their masks as the networks of a committee see them."""

import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import SEGMENT_PX, crop_square, resize, segmenter_input, whole

Frame = NDArray[np.float32]


def network_input(frame: Frame, size_px: int) -> Frame:
    """What the committee sees of a frame (H, W): the served segmenter's input, at the size that the plan wants."""
    served = segmenter_input(frame)
    return served if size_px == SEGMENT_PX else resize(served, height=size_px, width=size_px)


def square_mask(mask: NDArray[np.bool_], size_px: int) -> NDArray[np.bool_]:
    """A frame's mask (H, W) as the network's target (S, S)."""
    return crop_square(mask.astype(np.float32), whole(mask), size_px=size_px) >= 0.5
