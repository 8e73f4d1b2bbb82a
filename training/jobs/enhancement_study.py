"""What enhancement is worth, against none and CLAHE: `python -m training.jobs.enhancement_study --config FILE`.

Restoration of degraded hands, contrast of bone against the tissue around it, steadiness, the regressor's error, and
what the gate on structure sees of bones that were planted or erased. Nothing is read of the test part.
"""

import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from services.core.domain.gates import structure_change
from services.core.domain.metrics import bootstrap_interval, mean
from services.core.domain.preprocess import crop_square, hand_image, resize
from services.core.errors import InvalidRadiographError
from training.data.masks import read_label_map
from training.data.radiographs import Dataset, Radiograph, image_files, sex_columns
from training.data.rows import Rows
from training.enhancement.clahe import equalised
from training.enhancement.degrade import degrade, draw_degradation
from training.enhancement.hands import frame_masks, load_enhancer, load_segmenter
from training.enhancement.planted import Detection, detection, responses
from training.evaluation.enhancement import draw_sheet, write_report
from training.evaluation.restoration import Method, contrast_to_noise, psnr, ssim, unsteadiness
from training.jobs.command import JobConfig, command
from training.models.regressor import TransferNetwork
from training.run.exits import BadConfigurationError
from training.transfer.target import AgeTarget

LOG = logging.getLogger(__name__)
PART: Final = "validation"
BATCH: Final = 16
LEAST_PX: Final = 30
BONE: Final = 2

Image = NDArray[np.float32]


class EnhancementStudyConfig(JobConfig):
    """Everything the study depends on. `regions` holds ID.png: 1 articular region, 2 ossified epiphyses and carpals.

    `enhancers` names weights to compare; each is applied as it is, and as it is served, with the gate's `limit`.
    """

    dataset: Dataset
    hands: Path
    segmenter: Path
    enhancers: dict[str, Path]
    regressor: Path
    backbone: str
    regions: Path
    limit: float = Field(gt=0, le=1)
    images: int = Field(ge=4)
    variants: int = Field(4, ge=2)
    region_images: int = Field(ge=4)
    seed: int
    out: Path


def run(config: EnhancementStudyConfig) -> None:
    """Measure everything and write `report.md`, `figures.json` and `examples.png`."""
    cv2.setNumThreads(1)
    methods = _methods(config)
    radiographs = [r for r in config.dataset.read() if r.part == PART]
    prepared = Rows.read(config.hands)
    rows = prepared.find([r.id for r in radiographs])
    there = [(r, row) for r, row in zip(radiographs, rows, strict=True) if row >= 0]
    if len(there) < config.images:
        raise BadConfigurationError(f"{config.hands} holds {len(there)} of the {PART} part, not {config.images}")
    order = np.random.default_rng(config.seed).permutation(len(there))[: config.images]
    chosen = [there[int(index)] for index in order]
    hands = np.stack([prepared.columns["segmented"][row] for _, row in chosen]).astype(np.float32) / np.float32(255)
    figures: dict[str, Any] = {"images": len(hands), "restoration": restoration(config, methods, hands)}
    figures["mae_months"] = _errors(config, methods, [r for r, _ in chosen], hands)
    labelled = _regions(config)
    figures["contrast_to_noise"] = {
        name: _mean(
            [contrast_to_noise(*bones) for bones in zip(_apply(method, labelled[0]), *labelled[1:], strict=True)]
        )
        for name, method in methods.items()
    } | {"images": len(labelled[0])}
    found = _gate(config, labelled[0], labelled[1])
    figures["gate"] = {
        name: {"limit": one.limit, "false_alarms": one.false_alarms,
               "detected": [{"kind": kind, "diameter_px": px, "share": share, "n": n}
                            for (kind, px), (share, n) in one.detected.items()]}
        for name, one in found.items()
    }  # fmt: skip
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw_sheet({name: _apply(method, _degraded(hands[:6], config.seed)) for name, method in methods.items()}, hands[:6],
               config.out / "examples.png")  # fmt: skip
    write_report(config.out, figures, part=PART)


def restoration(config: EnhancementStudyConfig, methods: dict[str, Method], hands: Image) -> dict[str, Any]:
    """PSNR, SSIM and steadiness of each method over `variants` drawn degradations of every hand."""
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    variants = [_degraded(hands, config.seed + 1 + number) for number in range(config.variants)]
    for name, method in methods.items():
        restored = [_apply(method, images) for images in variants]
        for number, original in enumerate(hands):
            seen = np.stack([images[number] for images in restored])
            results[name]["psnr_db"] += [psnr(one, original) for one in seen]
            results[name]["ssim"] += [ssim(one, original) for one in seen]
            results[name]["unsteadiness"].append(unsteadiness(seen))
        results[name]["psnr_undegraded_db"] = [
            psnr(one, original) for one, original in zip(_apply(method, hands), hands, strict=True)
        ]
    return {name: {key: _mean(values) for key, values in found.items()} for name, found in results.items()}


def _methods(config: EnhancementStudyConfig) -> dict[str, Method]:
    """By name: hands (N, S, S) to hands."""

    def clahe(hands: Image) -> Image:
        made = np.stack([equalised(np.rint(hand * 255).astype(np.uint8)) for hand in hands])
        return made.astype(np.float32) / np.float32(255)

    methods: dict[str, Method] = {"nothing": lambda hands: hands, "CLAHE": clahe}
    for name, path in config.enhancers.items():
        network = load_enhancer(path)

        def generated(hands: Image, network: torch.nn.Module = network) -> Image:
            with torch.inference_mode():
                return np.asarray(network(torch.from_numpy(hands)[:, None]).numpy()[:, 0], np.float32)

        def gated(hands: Image, generate: Method = generated) -> Image:
            made = generate(hands)
            kept = [structure_change(a, b) <= config.limit for a, b in zip(hands, made, strict=True)]
            return np.asarray(np.where(np.array(kept)[:, None, None], made, hands), np.float32)

        methods[name] = generated
        methods[f"{name}, gated"] = gated
    return methods


def _apply(method: Method, hands: Image) -> Image:
    return np.concatenate([method(hands[start : start + BATCH]) for start in range(0, len(hands), BATCH)])


def _degraded(hands: Image, seed: int) -> Image:
    drawn = [np.random.default_rng((seed, index)) for index in range(len(hands))]
    return np.stack([degrade(hand, draw_degradation(rng)) for hand, rng in zip(hands, drawn, strict=True)])


def _errors(
    config: EnhancementStudyConfig, methods: dict[str, Method], radiographs: list[Radiograph], hands: Image
) -> dict[str, Any]:
    """MAE in months of one regressor on what each method makes of the hands, as they are and degraded."""
    target = AgeTarget()
    network = TransferNetwork(config.backbone, target.outputs)
    network.load_state_dict(torch.load(config.regressor, weights_only=True)["model"])
    network.eval()
    ages = np.array([float(r.label) for r in radiographs], np.float32)
    columns = sex_columns(radiographs)
    result: dict[str, Any] = {}
    for name, images in (("as they are", hands), ("degraded", _degraded(hands, config.seed))):
        for method, change in methods.items():
            read = []
            for start in range(0, len(hands), BATCH):
                x = torch.from_numpy(change(images[start : start + BATCH]))[:, None]
                with torch.inference_mode():
                    read.append(((network(x)[0] + network(x.flip(3))[0]) / 2).numpy())
            errors = np.abs(target.months(np.concatenate(read), columns) - ages).astype(np.float64)
            result.setdefault(method, {})[name] = _mean(list(errors))
    return result


def _regions(config: EnhancementStudyConfig) -> tuple[Image, NDArray[np.bool_], NDArray[np.bool_]]:
    """Hands (N, S, S) with their ossified bone, and the tissue around it in the articular regions."""
    maps = image_files(config.regions)
    usable = [r for r in config.dataset.read() if r.id in maps and r.part in ("train", PART)]
    order = np.random.default_rng(config.seed).permutation(len(usable))[: config.region_images]
    segmenter = load_segmenter(config.segmenter)
    hands, bones, tissues = [], [], []
    for index in order:
        radiograph = usable[int(index)]
        frame = radiograph.frame()
        ((_, mask),) = frame_masks(segmenter, [frame])
        try:
            hand, square = hand_image(frame, mask)
        except InvalidRadiographError:
            LOG.warning("%s has no hand in it", radiograph.id)
            continue
        labels = read_label_map(maps[radiograph.id])
        height, width = frame.shape
        regions = [resize((labels == value).astype(np.float32), height=height, width=width) for value in (1, BONE)]
        articular, bone = (crop_square(region, square, size_px=hand.shape[0]) >= 0.5 for region in regions)
        bone, tissue = bone & (hand > 0), articular & ~bone & (hand > 0)
        if min(bone.sum(), tissue.sum()) >= LEAST_PX:
            hands.append(hand)
            bones.append(bone)
            tissues.append(tissue)
    if not hands:
        raise BadConfigurationError(f"{config.regions} has no map of a radiograph of the dataset")
    return np.stack(hands), np.stack(bones), np.stack(tissues)


def _gate(config: EnhancementStudyConfig, hands: Image, bones: NDArray[np.bool_]) -> dict[str, Detection]:
    """What the gate sees at the limit that is served, and at the one with 5% false alarms."""
    allowed, changed = [], defaultdict(list)
    for index, (hand, bone) in enumerate(zip(hands, bones, strict=True)):
        value, found = responses(hand, bone, np.random.default_rng((config.seed, index)))
        allowed.append(value)
        for kind, change in found.items():
            changed[kind].append(change)
    values = {kind: np.array(found) for kind, found in changed.items()}
    return {
        "at 5% false alarms": detection(np.array(allowed), values),
        "as served": detection(np.array(allowed), values, limit=config.limit),
    }


def _mean(values: list[float]) -> dict[str, float]:
    """Mean with its 95% bootstrap interval."""
    array = np.array(values, np.float64)
    low, high = bootstrap_interval(array, mean)
    return {"mean": float(array.mean()), "low": low, "high": high}


if __name__ == "__main__":
    command(EnhancementStudyConfig, run, __doc__)
