"""Prepared hands of many radiographs, made by the very functions that serving uses and kept on disk between jobs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.domain.gates import structure_change
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import (
    HAND_PX,
    SEGMENT_PX,
    hand_image,
    resize,
    segmenter_input,
    uncrop_square,
    whole,
)
from services.core.errors import InvalidRadiographError
from training.data.rsna import Frames
from training.models.enhancer import UNetGenerator
from training.models.segmenter import FCDenseNet


def frame_masks(
    model: FCDenseNet, frames: Frames, indices: NDArray[np.intp], *, segment_px: int = SEGMENT_PX, batch_size: int = 2
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
    """Index, probability and mask, both on the frame, of each of `indices`.

    With `segment_px` below SEGMENT_PX the network sees smaller images: four times faster at half the side, for training
    images only, whose crops are jittered anyway.
    """
    model.eval()
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        inputs = np.stack([segmenter_input(frames.frame(int(i))) for i in chosen])
        if segment_px != SEGMENT_PX:
            inputs = np.stack([resize(x, height=segment_px, width=segment_px) for x in inputs])
        batch = torch.from_numpy(inputs[:, None]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = model(batch)
        for index, probability in zip(chosen, logits.float().sigmoid().numpy()[:, 0], strict=True):
            frame = frames.frame(int(index))
            on_frame = uncrop_square(probability, whole(frame), height=frame.shape[0], width=frame.shape[1])
            yield int(index), on_frame, hand_mask(on_frame)


def segmented_hand(frame: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The segmented hand (HAND_PX, HAND_PX) of a frame, or zeros where there is no mask."""
    try:
        return hand_image(frame, mask)[0]
    except InvalidRadiographError:
        return np.zeros((HAND_PX, HAND_PX), np.float32)


def enhance(
    model: UNetGenerator, hands: NDArray[np.float32], *, maximum_structure_change: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Gated enhancement of (N, S, S) hands, as served: the un-enhanced hand stays where structure would change.

    Returns the hands and each one's structure change (N,).
    """
    model.eval()
    with torch.inference_mode():
        generated = model(torch.from_numpy(hands)[:, None].contiguous(memory_format=torch.channels_last)).numpy()[:, 0]
    changes = np.array([structure_change(a, b) for a, b in zip(hands, generated, strict=True)])
    return np.where((changes <= maximum_structure_change)[:, None, None], generated, hands), changes


def load_segmenter(checkpoint: Path) -> FCDenseNet:
    """The segmenter of a checkpoint, in evaluation mode."""
    model = FCDenseNet().to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    return model.eval()


def load_enhancer(checkpoint: Path) -> UNetGenerator:
    """The enhancer of a checkpoint, in evaluation mode."""
    model = UNetGenerator().to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    return model.eval()
