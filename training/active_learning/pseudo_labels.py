"""Outlines that a segmenter is so sure of that it may learn from them: pseudo-labels (Lee DH, ICML workshop 2013)."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from training.active_learning.learner import Image, probability


def views(image: Image) -> Iterator[tuple[Image, bool]]:
    """A segmenter's input (S, S) seen in four ways, each with whether it is mirrored: brighter, darker, softer."""
    yield image, False
    yield np.power(image, np.float32(0.8)), True
    yield np.power(image, np.float32(1.3)), False
    yield np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.float32), True


def pseudo_label(network: nn.Module, image: Image) -> tuple[NDArray[np.bool_], float]:
    """The mask (S, S) of the mean of all views, and the smallest Dice of a view's own mask with it."""
    found = []
    for view, mirrored in views(image):
        if mirrored:
            found.append(probability(network, view[None, :, ::-1])[0, :, ::-1])
        else:
            found.append(probability(network, view[None])[0])
    mask = hand_mask(np.mean(found, axis=0, dtype=np.float32))
    return mask, min(dice(hand_mask(np.ascontiguousarray(one)), mask) for one in found)
