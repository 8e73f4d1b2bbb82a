"""Outlines that a segmenter is so sure of that it may learn from them: pseudo-labels (Lee DH, ICML workshop 2013)."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.metrics import dice
from services.core.domain.postprocess import hand_mask
from training.models.segmenter import FCDenseNet

Image = NDArray[np.float32]


def views(image: Image) -> Iterator[tuple[Image, bool]]:
    """A segmenter's input (S, S) seen in four ways, each with whether it is mirrored: brighter, darker, softer."""
    yield image, False
    yield np.power(image, np.float32(0.8)), True
    yield np.power(image, np.float32(1.3)), False
    yield np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.float32), True


def pseudo_label(model: FCDenseNet, image: Image) -> tuple[NDArray[np.bool_], float]:
    """The mask (S, S) of the mean of all views, and the smallest Dice of a view's own mask with it."""
    found = []
    for view, mirrored in views(image):
        seen = np.ascontiguousarray(view[:, ::-1] if mirrored else view)
        batch = torch.from_numpy(seen)[None, None].contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            probability = model(batch).float().sigmoid().numpy()[0, 0]
        found.append(probability[:, ::-1] if mirrored else probability)
    mask = hand_mask(np.mean(found, axis=0, dtype=np.float32))
    return mask, min(dice(hand_mask(np.ascontiguousarray(probability)), mask) for probability in found)
