"""Exports, proves, calibrates and publishes one release: `python -m training.jobs.publish --config FILE`.

The validation part fits the limits of the gates, the calibration part the intervals; the test part is read once.
"""

import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from services.core.adapters.model_store import preprocessing_sha256, publish_model, write_release
from services.core.domain.contracts import CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER, SEX_ORDER
from services.core.domain.gates import contrast
from services.core.domain.release import Release
from training.data.hands import load_enhancer, load_segmenter
from training.data.masks import read_masks
from training.data.rsna import load_frames, read_rsna
from training.data.split import MASK_TEST_CSV, read_ids, read_split, split_hash
from training.evaluation.calibration import LEVEL, interval_cells
from training.evaluation.gating import Chain, fitting_sets, thresholds
from training.evaluation.measure import OnnxModel, age_metrics, segmenter_dice
from training.evaluation.typicality import fit_typicality
from training.jobs.command import JobConfig, command
from training.models.regressor import BoneAgeRegressor
from training.models.served import ServedRegressor, ServedSegmenter
from training.publish.export import export, parity

NOTICE = (
    "Weights trained on radiographs of the RSNA 2017 Pediatric Bone Age Challenge: for academic research, education and "
    "other non-commercial use; cite Halabi SS et al., Radiology 2018;290(2):498-503. Not a medical device."
)


class PublishConfig(JobConfig):
    """What is published, and where to."""

    data: Path
    masks: Path
    cache: Path
    store: Path
    work: Path
    release: str
    version: int
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


def run(config: PublishConfig) -> None:
    """Do all of it; nothing is written to the store before everything is proven."""
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    samples = read_rsna(config.data)
    split = read_split()
    parts = np.array([split[sample.id] for sample in samples])
    ages = np.array([sample.age_months for sample in samples], np.float32)
    male = np.array([sample.male for sample in samples])
    frames = load_frames(samples, config.cache / "frames.npz")
    segmented = np.load(config.cache / "segmented.npz")
    hands: NDArray[np.uint8] = np.load(config.cache / "hands.npz")["hands"]
    chain = _chain(config)

    train = np.flatnonzero(parts == "train")
    upright, turns, others = fitting_sets(
        chain, frames, hands, train, count=config.fitting_images, seed=config.seed
    )
    networks = {
        SEGMENTER: ServedSegmenter(chain.segmenter),
        ENHANCER: chain.enhancer,
        REGRESSOR: ServedRegressor(chain.regressor, fit_typicality(upright, turns, others)),
    }
    files = {name: config.work / name / "model.onnx" for name in networks}
    examples = hands[train[:8], None].astype(np.float32) / 255
    agreement = {}
    for name, network in networks.items():
        export(network.to(memory_format=torch.contiguous_format), CONTRACTS[name], files[name])
        side = CONTRACTS[name].inputs[0].dims[-1]
        inputs = np.stack([cv2.resize(image[0], (side, side))[None] for image in examples])
        agreement[name] = parity(network, CONTRACTS[name], files[name], inputs)

    regressor = OnnxModel(CONTRACTS[REGRESSOR], files[REGRESSOR])
    outputs = {
        part: regressor(hands[parts == part].astype(np.float32) / 255)
        for part in ("validation", "calibration", "test")
    }
    predicted = {part: out["age_months"] for part, out in outputs.items()}
    figures = {part: age_metrics(predicted[part], ages[parts == part], male[parts == part]) for part in predicted}
    held = set(read_ids(MASK_TEST_CSV))
    pairs = [p for p in read_masks(config.masks, {s.id: s.true_shape for s in samples}) if p.id in held]
    dice = segmenter_dice(OnnxModel(CONTRACTS[SEGMENTER], files[SEGMENTER]), pairs)

    calibration = parts == "calibration"
    fit = (parts == "validation") | calibration
    release = Release(
        id=config.release,
        models=dict.fromkeys(networks, config.version),
        preprocessing_sha256=preprocessing_sha256(),
        interval_level=LEVEL,
        interval_cells=interval_cells(
            predicted["calibration"].astype(np.float64), ages[calibration].astype(np.float64), male[calibration]
        ),
        gates=thresholds(
            np.concatenate([outputs[part]["typicality"] for part in ("validation", "calibration")]),
            segmented["fraction"][fit],
            segmented["certainty"][fit],
            np.array([contrast(frames.frame(int(i))) for i in np.flatnonzero(fit)], np.float32),
            refused_share=config.refused_share,
            maximum_interval_width_months=config.maximum_interval_width_months,
            maximum_structure_change=config.maximum_structure_change,
        ),
        baseline_mae_months=float(figures["test"]["mae_months"]),  # type: ignore[arg-type]  # a scalar by its name
    )
    measured: dict[str, dict[str, Any]] = {
        SEGMENTER: {"mask_test": dice},
        ENHANCER: {"selection": {"l1": torch.load(config.enhancer, weights_only=True)["selection_l1"]}},
        REGRESSOR: figures,
    }
    for name in networks:
        card = {
            "model": name,
            "version": config.version,
            "trained_with": [yaml.safe_load(path.read_text()) for path in config.trained_with[name]],
            "seed": config.seed,
            "git_revision": _revision(),
            "data_sha256": sha256((config.data / "boneage-training-dataset.csv").read_bytes()).hexdigest(),
            "split_sha256": split_hash(),
            "metrics": measured[name],
            "parity": agreement[name],
            "licence_notice": NOTICE,
        }
        if name == REGRESSOR:
            card["training_ids"] = [sample.id for sample, part in zip(samples, parts, strict=True) if part == "train"]
            card["sex_order"] = list(SEX_ORDER)
        publish_model(config.store, CONTRACTS[name], config.version, files[name], card)
    write_release(config.store, release, current=True)


def _chain(config: PublishConfig) -> Chain:
    regressor = BoneAgeRegressor(config.backbone)
    regressor.load_state_dict(torch.load(config.regressor, weights_only=True)["model"])
    return Chain(
        load_segmenter(config.segmenter), load_enhancer(config.enhancer), regressor.eval(), config.maximum_structure_change
    )


def _revision() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607


if __name__ == "__main__":
    command(PublishConfig, run, __doc__)
