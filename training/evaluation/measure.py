"""Measures exported models on real radiographs: the figures of their cards, each with the name of its set."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.core.domain.contracts import SEX_ORDER, ModelContract
from services.core.domain.metrics import (
    AGE_BANDS_MONTHS,
    coverage,
    covered,
    dice,
    figure,
    in_age_band,
    mean,
)
from services.core.domain.postprocess import hand_mask
from services.core.domain.preprocess import segmenter_input, uncrop_square, whole
from services.core.domain.release import Release
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


def segmenter_dice(model: OnnxModel, pairs: Iterable[MaskedRadiograph]) -> dict[str, float]:
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
    """MAE in months of predicted ages (N, 3) in `SEX_ORDER` against reference (N,), ungated.

    Over all, by sex, by band of reference age and by both, each with its count and its 95% bootstrap interval. `sexes`
    (N,) are columns of `SEX_ORDER`.
    """
    own = np.abs(predicted[np.arange(len(reference)), sexes] - reference).astype(np.float64)
    unknown = np.abs(predicted[:, SEX_ORDER.index("unknown")] - reference).astype(np.float64)
    of_sex = {sex: sexes == column for column, sex in enumerate(SEX_ORDER) if (sexes == column).any()}
    by_sex = {sex: _mae(own[chosen]) for sex, chosen in of_sex.items()}
    return {
        **_mae(own),
        **{f"mae_{sex}_months": by_sex[sex]["mae_months"] for sex in ("male", "female") if sex in by_sex},
        "mae_sex_unknown_months": float(unknown.mean()),
        "by_sex": [{"sex": sex} | figures for sex, figures in by_sex.items()],
        "by_age_band": [band | _mae(own[inside]) for band, inside in _bands(reference)],
        "by_sex_and_age_band": [
            {"sex": sex} | band | _mae(own[chosen & inside])
            for sex, chosen in of_sex.items()
            for band, inside in _bands(reference)
        ],
    }


def interval_metrics(
    predicted: NDArray[np.float32], reference: NDArray[np.float32], sexes: NDArray[np.int64], release: Release
) -> dict[str, Any]:
    """How often a release's intervals hold the reference age, over all and by band of predicted and of reference age.

    Each with its count, its Clopper-Pearson interval and the median width; arrays as `age_metrics` has, ungated.
    """
    ages = np.maximum(predicted[np.arange(len(reference)), sexes].astype(np.float64), 0)  # as it is served
    true = reference.astype(np.float64)
    ends = np.array([release.interval(age, SEX_ORDER[column]) for age, column in zip(ages, sexes, strict=True)])
    hits, widths = covered(true, ends[:, 0], ends[:, 1]), ends[:, 1] - ends[:, 0]

    def held(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return {"n": int(chosen.sum())} | coverage(hits[chosen], widths[chosen]).record()

    return {
        "release": release.id,
        "level": release.interval_level,
        **held(np.ones(len(true), bool)),
        "by_predicted_age_band": [band | held(inside) for band, inside in _bands(ages)],
        "by_age_band": [band | held(inside) for band, inside in _bands(true)],
    }


def _bands(months: NDArray[np.floating]) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Each band of age, and which ages (N,) lie in it."""
    ages = months.astype(np.float64)
    return [({"low_months": low, "high_months": high}, in_age_band(ages, low, high)) for low, high in AGE_BANDS_MONTHS]


def _mae(errors: NDArray[np.float64]) -> dict[str, Any]:
    """Of absolute errors in months (N,), null where there are none."""
    mae = figure(errors, mean)
    interval = None if mae.value is None else [mae.low, mae.high]
    return {"n": mae.n, "mae_months": mae.value, "mae_months_ci95": interval}
