"""Exports, proves, calibrates and publishes one release: `python -m training.jobs.publish --config FILE`.

The validation part fits the limits of the gates, the calibration part the intervals; the test part is read once.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from services.core.adapters.model_store import (
    model_file,
    preprocessing_sha256,
    publish_model,
    release_file,
    write_release,
)
from services.core.domain.contracts import CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER
from services.core.domain.release import Release
from training.data.masks import read_masks
from training.data.radiographs import Dataset, Radiograph, report_missing, sex_columns
from training.data.rows import Rows
from training.data.split import MASK_TEST_CSV, read_ids, split_hash
from training.enhancement.hands import load_enhancer, load_segmenter
from training.evaluation.calibration import LEVEL, interval_cells
from training.evaluation.gating import Chain, fitting_sets, thresholds
from training.evaluation.measure import OnnxModel, age_metrics, segmenter_dice
from training.evaluation.typicality import fit_typicality
from training.jobs.command import JobConfig, command
from training.models.regressor import BoneAgeRegressor
from training.models.served import ServedRegressor, ServedSegmenter
from training.publish.averaging import mean_weights
from training.publish.export import export, parity
from training.run.exits import BadConfigurationError

NOTICE = (
    "Weights trained on radiographs of the RSNA 2017 Pediatric Bone Age Challenge: for academic research, education "
    "and other non-commercial use; cite Halabi SS et al., Radiology 2018;290(2):498-503. Not a medical device."
)
MEASURED: Final = ("validation", "calibration", "test")
GATING: Final = ("validation", "calibration")


class PublishConfig(JobConfig):
    """What is published, and where to."""

    dataset: Dataset
    masks: Path
    never_train: Path = MASK_TEST_CSV
    hands: Path
    store: Path
    work: Path
    release: str
    versions: dict[str, int]
    segmenter: Path
    enhancer: Path
    regressor: Annotated[list[Path], Field(min_length=1)]  # runs of one descent: their weights are averaged
    backbone: str
    trained_with: dict[str, list[Path]]
    maximum_structure_change: float
    maximum_interval_width_months: float
    refused_share: float
    turned_share: float
    fitting_images: int
    seed: int
    licence_notice: str = NOTICE


@dataclass(frozen=True, slots=True)
class Material:
    """The radiographs that measure, as `training.jobs.hands` prepared them, in one order."""

    parts: NDArray[np.str_]
    ages: NDArray[np.float32]
    sexes: NDArray[np.int64]
    rows: NDArray[np.intp]
    prepared: Rows

    def of(self, *parts: str) -> NDArray[np.bool_]:
        """Which radiographs (N,) are in these parts."""
        return np.isin(self.parts, parts)

    def hands(self, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Prepared hands (n, S, S) in [0, 1]."""
        return np.asarray(self.prepared.columns["enhanced"][self.rows[chosen]], np.float32) / np.float32(255)

    def numbers(self, column: str, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """One number (n,) of each."""
        return np.asarray(self.prepared.columns[column][self.rows[chosen]], np.float32)


def run(config: PublishConfig) -> None:
    """Do all of it; nothing is written to the store before everything is proven."""
    if release_file(config.store, config.release).exists():
        raise BadConfigurationError(f"release {config.release} is in {config.store} already; releases never change")
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    radiographs = config.dataset.read()
    material = _material(config, [r for r in radiographs if r.part in MEASURED])
    training = [r for r in radiographs if r.part == "train"]
    networks = _networks(config, training)
    files = {name: model_file(config.store, name, config.versions[name]) for name in networks}
    new = [name for name in networks if not files[name].exists()]
    for name in new:
        files[name] = config.work / name / "model.onnx"
        export(networks[name].to(memory_format=torch.contiguous_format), CONTRACTS[name], files[name])
    agreement = {name: _parity(networks[name], name, files[name], material) for name in networks}

    regressor = OnnxModel(CONTRACTS[REGRESSOR], files[REGRESSOR])
    outputs = {part: regressor(material.hands(material.of(part))) for part in MEASURED}
    figures = {
        part: age_metrics(out["age_months"], material.ages[material.of(part)], material.sexes[material.of(part)])
        for part, out in outputs.items()
    }
    measured: dict[str, dict[str, Any]] = {
        SEGMENTER: {"mask_test": _dice(config, files[SEGMENTER])},
        ENHANCER: {"selection": {"l1": torch.load(config.enhancer, weights_only=True)["selection_l1"]}},
        REGRESSOR: figures,
    }
    release = _release(config, material, outputs, baseline_mae_months=float(figures["test"]["mae_months"]))
    for name in new:
        card = _card(config, training, name) | {"metrics": measured[name], "parity": agreement[name]}
        publish_model(config.store, CONTRACTS[name], config.versions[name], files[name], card)
    write_release(config.store, release, current=True)


def _material(config: PublishConfig, radiographs: Sequence[Radiograph]) -> Material:
    prepared = Rows.read(config.hands)
    rows = prepared.find([r.id for r in radiographs])
    absent = [r.id for r, row in zip(radiographs, rows, strict=True) if row < 0]
    report_missing(f"are not in {config.hands}", absent, of=len(radiographs))
    there = [r for r, row in zip(radiographs, rows, strict=True) if row >= 0]
    if empty := [part for part in MEASURED if part not in {r.part for r in there}]:
        raise BadConfigurationError(f"{config.hands} holds no radiograph of {', '.join(empty)}")
    try:
        ages = np.array([float(r.label) for r in there], np.float32)
    except ValueError as error:
        raise BadConfigurationError(f"{config.dataset.labels}: a label is no age in months: {error}") from error
    return Material(np.array([r.part for r in there]), ages, sex_columns(there), rows[rows >= 0], prepared)


def _networks(config: PublishConfig, training: Sequence[Radiograph]) -> dict[str, nn.Module]:
    """The graphs to export; the regressor's with the scores of typicality, fitted on the training part."""
    chain = _chain(config)
    sets = fitting_sets(chain, training, count=config.fitting_images, seed=config.seed)
    return {
        SEGMENTER: ServedSegmenter(chain.segmenter),
        ENHANCER: chain.enhancer,
        REGRESSOR: ServedRegressor(chain.regressor, fit_typicality(*sets)),
    }


def _parity(network: nn.Module, name: str, path: Path, material: Material) -> dict[str, float]:
    """How far an ONNX file is from torch, on hands at the model's size; a published version must be this network's."""
    contract = CONTRACTS[name]
    side = contract.inputs[0].dims[-1]
    examples = material.hands(material.of("validation"))[:8]
    inputs = np.stack([cv2.resize(hand, (side, side))[None] for hand in examples])
    return parity(network.to(memory_format=torch.contiguous_format), contract, path, inputs)


def _dice(config: PublishConfig, path: Path) -> dict[str, float]:
    """Dice on the outlines that nothing was trained on or selected with."""
    held = set(read_ids(config.never_train))
    pairs = [pair for pair in read_masks(config.masks, config.dataset.true_shapes()) if pair.id in held]
    return segmenter_dice(OnnxModel(CONTRACTS[SEGMENTER], path), pairs)


def _release(
    config: PublishConfig,
    material: Material,
    outputs: dict[str, dict[str, NDArray[np.float32]]],
    *,
    baseline_mae_months: float,
) -> Release:
    """Intervals from the calibration part; the gates' limits from it and the validation part."""
    calibration, fit = material.of("calibration"), material.of(*GATING)
    typicality = np.zeros((len(fit), outputs[GATING[0]]["typicality"].shape[1]), np.float32)
    for part in GATING:
        typicality[material.of(part)] = outputs[part]["typicality"]
    return Release(
        id=config.release,
        models=config.versions,
        preprocessing_sha256=preprocessing_sha256(),
        interval_level=LEVEL,
        interval_cells=interval_cells(
            outputs["calibration"]["age_months"].astype(np.float64),
            material.ages[calibration].astype(np.float64),
            material.sexes[calibration],
        ),
        gates=thresholds(
            typicality[fit],
            *(material.numbers(column, fit) for column in ("fraction", "certainty", "contrast")),
            refused_share=config.refused_share,
            turned_share=config.turned_share,
            maximum_interval_width_months=config.maximum_interval_width_months,
            maximum_structure_change=config.maximum_structure_change,
        ),
        baseline_mae_months=baseline_mae_months,
    )


def _card(config: PublishConfig, training: Sequence[Radiograph], name: str) -> dict[str, Any]:
    """What a version was made from and with; the regressor's also names its training radiographs."""
    card = {
        "trained_with": [yaml.safe_load(path.read_text()) for path in config.trained_with[name]],
        "seed": config.seed,
        "git_revision": _revision(),
        "data_sha256": sha256(config.dataset.labels.read_bytes()).hexdigest(),
        "split_sha256": split_hash(config.dataset.split),
        "licence_notice": config.licence_notice,
    }
    if name == REGRESSOR:
        card["training_ids"] = [radiograph.id for radiograph in training]
    return card


def _chain(config: PublishConfig) -> Chain:
    regressor = BoneAgeRegressor(config.backbone)
    regressor.load_state_dict(mean_weights([torch.load(path, weights_only=True)["model"] for path in config.regressor]))
    return Chain(
        load_segmenter(config.segmenter),
        load_enhancer(config.enhancer),
        regressor.eval(),
        config.maximum_structure_change,
    )


def _revision() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607


if __name__ == "__main__":
    command(PublishConfig, run, __doc__)
