"""Prepared hands, made by the very functions that serving uses."""

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Final, TypeVar

import numpy as np
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from services.core.adapters.model_repository import preprocessing_sha256
from services.core.domain import gates, polarity, upright
from services.core.domain.gates import contrast, mask_certainty, structure_change
from services.core.domain.polarity import inverted, is_negative, positive
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import (
    HAND_PX,
    hand_image,
    segmenter_input,
    uncrop_square,
    whole,
)
from services.core.domain.upright import DOUBTFUL, QUARTERS, surest_turn
from services.core.errors import InvalidRadiographError
from training.models.enhancer import UNetGenerator
from training.models.exported import load_exported
from training.models.segmenter import FCDenseNet
from training.run.exits import BadConfigurationError
from training.run.precision import cpu_autocast

Image = NDArray[np.float32]
Network = TypeVar("Network", FCDenseNet, UNetGenerator)
FASTEST_BATCH: Final = 2
EXPORTED: Final = ".onnx"
PROBE_PX: Final = 32
BADLY_STORED: Final = "badly stored"
"""Stands in what hands were made by where radiographs were disturbed before."""


def frame_masks(model: FCDenseNet, frames: Sequence[Image]) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
    """Probability and mask, both on the frame, of each of `frames` (H, W) in [0, 1].

    Of negatives as of positives, and of those that lie as of those whose fingers are up: as served.
    """
    for frame, found in zip(frames, _masks(model, frames), strict=True):
        best, shown = found, frame
        if is_negative(frame, found[1]):
            (again,) = _masks(model, [inverted(frame)])
            if is_negative(frame, again[1]):
                best, shown = again, inverted(frame)
        if mask_certainty(*best) < DOUBTFUL:
            turns = [best] + [one for quarter in QUARTERS for one in _masks(model, [shown], quarter=quarter)]
            best = turns[surest_turn([mask_certainty(*one) for one in turns], [mask.mean() for _, mask in turns])]
        yield best


def _masks(
    model: FCDenseNet, frames: Sequence[Image], *, quarter: int = 0
) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
    """Probability and mask on each frame, which the network saw in that quarter turn."""
    model.eval()
    for start in range(0, len(frames), FASTEST_BATCH):
        chosen = frames[start : start + FASTEST_BATCH]
        inputs = np.stack([np.rot90(segmenter_input(frame), quarter) for frame in chosen])
        batch = torch.from_numpy(inputs[:, None]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), cpu_autocast():
            logits = model(batch)
        for frame, probability in zip(chosen, logits.float().sigmoid().numpy()[:, 0], strict=True):
            square = np.rot90(probability, -quarter)
            on_frame = uncrop_square(square, whole(frame), height=frame.shape[0], width=frame.shape[1])
            yield on_frame, hand_mask(on_frame)


def gated(frame: Image, probability: Image, mask: NDArray[np.bool_]) -> dict[str, np.float32]:
    """What the gates before the reader look at in a frame (H, W), its probability and its mask, as served."""
    return {
        "fraction": np.float32(mask.mean()),
        "certainty": np.float32(mask_certainty(probability, mask)),
        "contrast": np.float32(contrast(positive(frame, mask))),
    }


def segmented_hand(frame: Image, mask: NDArray[np.bool_]) -> Image:
    """The segmented hand (HAND_PX, HAND_PX) of a frame, or zeros where there is no mask."""
    try:
        return hand_image(positive(frame, mask), mask)[0]
    except InvalidRadiographError:
        return np.zeros((HAND_PX, HAND_PX), np.float32)


def enhance(
    model: UNetGenerator, hands: Image, *, maximum_structure_change: float
) -> tuple[Image, NDArray[np.float64]]:
    """Gated enhancement of (N, S, S) hands, as served: the un-enhanced hand stays where structure would change.

    Returns the hands and each one's structure change (N,).
    """
    model.eval()
    with torch.inference_mode():
        generated = model(torch.from_numpy(hands)[:, None].contiguous(memory_format=torch.channels_last)).numpy()[:, 0]
    changes = np.array([structure_change(a, b) for a, b in zip(hands, generated, strict=True)])
    return np.where((changes <= maximum_structure_change)[:, None, None], generated, hands), changes


def load_segmenter(weights: Path) -> FCDenseNet:
    """The segmenter of a checkpoint or of an exported version, in evaluation mode. Raises BadConfigurationError."""
    return _loaded(FCDenseNet(), weights, prefix="network.")


def load_enhancer(weights: Path) -> UNetGenerator:
    """The enhancer of a checkpoint or of an exported version, in evaluation mode. Raises BadConfigurationError."""
    return _loaded(UNetGenerator(), weights)


def made_by(segmenter: Path, enhancer: Path | None, maximum_structure_change: float) -> str:
    """What prepared hands depend on beside the radiographs: the models, the gate and the code before them.

    Raises BadConfigurationError where a model cannot be read.
    """
    try:
        models = [sha256(path.read_bytes()).hexdigest() for path in (segmenter, enhancer) if path is not None]
    except OSError as error:
        raise BadConfigurationError(str(error)) from error
    return " ".join([*models, str(maximum_structure_change), preprocessing_sha256()])


@cache
def masking_sha256() -> str:
    """SHA-256 of the code that, beside preprocessing, decides which mask and hand a frame has."""
    files = [Path(str(module.__file__)) for module in (gates, polarity, upright)]
    return sha256(b"".join(path.read_bytes() for path in (*files, Path(__file__)))).hexdigest()


def _loaded(model: Network, weights: Path, *, prefix: str = "") -> Network:
    try:
        if weights.suffix == EXPORTED:
            load_exported(model, weights, torch.zeros(1, 1, PROBE_PX, PROBE_PX), prefix=prefix)
        else:
            model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["model"])
    except (OSError, ValueError, RuntimeError, KeyError, UnpicklingError, DecodeError) as error:
        raise BadConfigurationError(f"{weights} holds no weights of this network: {error}") from error
    return model.to(memory_format=torch.channels_last).eval()
