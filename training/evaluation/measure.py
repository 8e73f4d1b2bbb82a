"""Measures exported models on real radiographs: the figures of their cards, each with the name of its set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.core.domain.contracts import SEX_ORDER, ModelContract
from services.core.domain.metrics import bootstrap_interval, dice
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import segmenter_input, uncrop_square, whole
from training.data.masks import MaskedRadiograph


class OnnxModel:
    """One exported model, run batch by batch on this machine's CPU."""

    def __init__(self, contract: ModelContract, path: Path) -> None:
        self.contract = contract
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """All outputs for (N, S, S) images, by name."""
        names = [spec.name for spec in self.contract.outputs]
        step = self.contract.max_batch
        parts = [
            self.session.run(names, {self.contract.inputs[0].name: images[start : start + step, None]})
            for start in range(0, len(images), step)
        ]
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def segmenter_dice(model: OnnxModel, pairs: Sequence[MaskedRadiograph]) -> dict[str, float]:
    """Dice on the frame of the final mask against people's outlines: mean and least."""
    scores = []
    for pair in pairs:
        probability = model(segmenter_input(pair.frame)[None])["hand_probability"][0, 0]
        height, width = pair.frame.shape
        found = hand_mask(uncrop_square(probability, whole(pair.frame), height=height, width=width))
        scores.append(dice(found, pair.mask))
    return {"dice_mean": float(np.mean(scores)), "dice_min": float(np.min(scores)), "n": len(scores)}


def age_metrics(
    predicted: NDArray[np.float32], reference: NDArray[np.float32], sexes: NDArray[np.int64]
) -> dict[str, Any]:
    """MAE in months of predicted ages (N, 3) in `SEX_ORDER` against reference (N,), over all and by sex, ungated.

    `sexes` (N,) are columns of `SEX_ORDER`.
    """
    own = np.abs(predicted[np.arange(len(reference)), sexes] - reference).astype(np.float64)
    unknown = np.abs(predicted[:, SEX_ORDER.index("unknown")] - reference).astype(np.float64)
    by_sex = {sex: own[sexes == SEX_ORDER.index(sex)] for sex in ("male", "female")}
    return {
        "n": len(reference),
        "mae_months": float(own.mean()),
        "mae_months_ci95": list(bootstrap_interval(own, lambda v: float(v.mean()))),
        **{f"mae_{sex}_months": float(errors.mean()) for sex, errors in by_sex.items() if len(errors)},
        "mae_sex_unknown_months": float(unknown.mean()),
    }
