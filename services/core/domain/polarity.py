"""Negatives: radiographs in which bone is dark, though nothing in their file says so."""

from typing import Final

import cv2
import numpy as np

from services.core.domain.preprocess import Image, Mask

RING: Final = 1 / 30
"""How far from the hand the air beside it is looked at, of the frame's long side."""


def is_negative(frame: Image, mask: Mask) -> bool:
    """Whether the hand in a frame (H, W) is darker than the air beside it: X-rays darken film where nothing is."""
    width = max(2, round(max(frame.shape) * RING))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    beside = (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
    if not mask.any() or not beside.any():
        return False
    return bool(np.median(frame[mask]) < np.median(frame[beside]))


def inverted(frame: Image) -> Image:
    """Dark for bright, of (H, W) in [0, 1]."""
    return np.float32(1) - frame


def positive(frame: Image, mask: Mask) -> Image:
    """The frame (H, W) in [0, 1] with bone bright: the very same where it is so already."""
    return inverted(frame) if is_negative(frame, mask) else frame
