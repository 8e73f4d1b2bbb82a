"""Exports, proves, calibrates and publishes one release: `python -m training.jobs.publish --config FILE`.

The validation part fits the limits of the gates, the calibration part the intervals; the test part is read once.
"""

import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from services.core.adapters.model_store import model_file, preprocessing_sha256, publish_model, write_release
from services.core.domain.contracts import CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER
from services.core.domain.gates import contrast
from services.core.domain.release import Release
from training.data.masks import read_masks
from training.data.rsna import LABELS_CSV, Frames, Sample, load_frames, read_rsna
from training.data.split import MASK_TEST_CSV, read_ids, read_split, split_hash
from training.enhancement.hands import load_enhancer, load_segmenter
from training.evaluation.calibration import LEVEL, interval_cells
from training.evaluation.gating import Chain, fitting_sets, thresholds
from training.evaluation.measure import OnnxModel, age_metrics, segmenter_dice
from training.evaluation.typicality import fit_typicality
from training.jobs.command import JobConfig, command
from training.models.regressor import BoneAgeRegressor
from training.models.served import ServedRegressor, ServedSegmenter
from training.publish.export import export, parity

NOTICE = (
    "Weights trained on radiographs of the RSNA 2017 Pediatric Bone Age Challenge: for academic research, education "
    "and other non-commercial use; cite Halabi SS et al., Radiology 2018;290(2):498-503. Not a medical device."
)
MEASURED: Final = ("validation", "calibration", "test")
GATING: Final = ("validation", "calibration")


class PublishConfig(JobConfig):
    """What is published, and where to."""

    data: Path
    masks: Path
    cache: Path
    measured: Path
    store: Path
    work: Path
    release: str
    versions: dict[str, int]
    segmenter: Path
    enhancer: Path
    regressor: Path
    backbone: str
    trained_with: dict[str, list[Path]]
    maximum_structure_change: float
    maximum_interval_width_months: float
    refused_share: float
    fitting_images: int
    seed: int


@dataclass(frozen=True, slots=True)
class Material:
    """The radiographs with their labels, and what the hands job made of those that measure."""

    samples: list[Sample]
    parts: NDArray[np.str_]
    ages: NDArray[np.float32]
    male: NDArray[np.bool_]
    frames: Frames
    hands: NDArray[np.uint8]
    fraction: NDArray[np.float32]
    certainty: NDArray[np.float32]


def run(config: PublishConfig) -> None:
    """Do all of it; nothing is written to the store before everything is proven."""
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    material = _material(config)
    networks = _networks(config, material)
    files = {name: model_file(config.store, name, config.versions[name]) for name in networks}
    new = [name for name in networks if not files[name].exists()]
    for name in new:
        files[name] = config.work / name / "model.onnx"
        export(networks[name].to(memory_format=torch.contiguous_format), CONTRACTS[name], files[name])
    agreement = {name: _parity(networks[name], name, files[name], material) for name in networks}

    regressor = OnnxModel(CONTRACTS[REGRESSOR], files[REGRESSOR])
    outputs = {part: regressor(_floats(material.hands[material.parts == part])) for part in MEASURED}
    figures = {
        part: age_metrics(
            out["age_months"], material.ages[material.parts == part], material.male[material.parts == part]
        )
        for part, out in outputs.items()
    }
    measured: dict[str, dict[str, Any]] = {
        SEGMENTER: {"mask_test": _dice(config, material, files[SEGMENTER])},
        ENHANCER: {"selection": {"l1": torch.load(config.enhancer, weights_only=True)["selection_l1"]}},
        REGRESSOR: figures,
    }
    release = _release(config, material, outputs, baseline_mae_months=float(figures["test"]["mae_months"]))
    for name in new:
        card = _card(config, material, name) | {"metrics": measured[name], "parity": agreement[name]}
        publish_model(config.store, CONTRACTS[name], config.versions[name], files[name], card)
    write_release(config.store, release, current=True)


def _material(config: PublishConfig) -> Material:
    samples = read_rsna(config.data)
    split = read_split()
    segmented, hands = np.load(config.measured / "segmented.npz"), np.load(config.measured / "hands.npz")
    return Material(
        samples,
        np.array([split[sample.id] for sample in samples]),
        np.array([sample.age_months for sample in samples], np.float32),
        np.array([sample.male for sample in samples]),
        load_frames(samples, config.cache / "frames.npz"),
        hands["hands"],
        segmented["fraction"],
        segmented["certainty"],
    )


def _networks(config: PublishConfig, material: Material) -> dict[str, nn.Module]:
    """The graphs to export; the regressor's with the scores of typicality, fitted on the training part."""
    chain = _chain(config)
    train = np.flatnonzero(material.parts == "train")
    sets = fitting_sets(chain, material.frames, train, count=config.fitting_images, seed=config.seed)
    return {
        SEGMENTER: ServedSegmenter(chain.segmenter),
        ENHANCER: chain.enhancer,
        REGRESSOR: ServedRegressor(chain.regressor, fit_typicality(*sets)),
    }


def _parity(network: nn.Module, name: str, path: Path, material: Material) -> dict[str, float]:
    """How far an ONNX file is from torch, on hands at the model's size; a published version must be this network's."""
    contract = CONTRACTS[name]
    side = contract.inputs[0].dims[-1]
    examples = _floats(material.hands[material.parts == "validation"][:8])
    inputs = np.stack([cv2.resize(hand, (side, side))[None] for hand in examples])
    return parity(network.to(memory_format=torch.contiguous_format), contract, path, inputs)


def _dice(config: PublishConfig, material: Material, path: Path) -> dict[str, float]:
    """Dice on the outlines that nothing was trained on or selected with."""
    held = set(read_ids(MASK_TEST_CSV))
    shapes = {sample.id: sample.true_shape for sample in material.samples}
    pairs = [pair for pair in read_masks(config.masks, shapes) if pair.id in held]
    return segmenter_dice(OnnxModel(CONTRACTS[SEGMENTER], path), pairs)


def _release(
    config: PublishConfig,
    material: Material,
    outputs: dict[str, dict[str, NDArray[np.float32]]],
    *,
    baseline_mae_months: float,
) -> Release:
    """Intervals from the calibration part; the gates' limits from it and the validation part."""
    calibration = material.parts == "calibration"
    fit = np.flatnonzero(np.isin(material.parts, GATING))
    order = np.argsort(np.concatenate([np.flatnonzero(material.parts == part) for part in GATING]), kind="stable")
    typicality = np.concatenate([outputs[part]["typicality"] for part in GATING])[order]
    return Release(
        id=config.release,
        models=config.versions,
        preprocessing_sha256=preprocessing_sha256(),
        interval_level=LEVEL,
        interval_cells=interval_cells(
            outputs["calibration"]["age_months"].astype(np.float64),
            material.ages[calibration].astype(np.float64),
            material.male[calibration],
        ),
        gates=thresholds(
            typicality,
            material.fraction[fit],
            material.certainty[fit],
            np.array([contrast(material.frames.frame(int(i))) for i in fit], np.float32),
            refused_share=config.refused_share,
            maximum_interval_width_months=config.maximum_interval_width_months,
            maximum_structure_change=config.maximum_structure_change,
        ),
        baseline_mae_months=baseline_mae_months,
    )


def _card(config: PublishConfig, material: Material, name: str) -> dict[str, Any]:
    """What a version was made from and with; the regressor's also names its training radiographs."""
    card = {
        "trained_with": [yaml.safe_load(path.read_text()) for path in config.trained_with[name]],
        "seed": config.seed,
        "git_revision": _revision(),
        "data_sha256": sha256((config.data / LABELS_CSV).read_bytes()).hexdigest(),
        "split_sha256": split_hash(),
        "licence_notice": NOTICE,
    }
    if name == REGRESSOR:
        card["training_ids"] = [
            s.id for s, part in zip(material.samples, material.parts, strict=True) if part == "train"
        ]
    return card


def _floats(hands: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(hands, np.float32) / np.float32(255)


def _chain(config: PublishConfig) -> Chain:
    regressor = BoneAgeRegressor(config.backbone)
    regressor.load_state_dict(torch.load(config.regressor, weights_only=True)["model"])
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
