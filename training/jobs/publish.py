"""Exports, proves, calibrates and publishes one release: `python -m training.jobs.publish --config FILE`.

The validation part fits the limits of the gates, the calibration part the intervals; the test part is read once.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Self

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import nn

from services.core.adapters.model_repository import preprocessing_sha256
from services.core.adapters.publishing import publish_model, publish_release
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS, ENHANCER, SEGMENTER
from services.core.domain.gates import GateThresholds
from services.core.domain.release import Release
from training.data.masks import read_masks
from training.data.radiographs import Dataset, Radiograph, sex_columns
from training.data.split import MASK_TEST_CSV, read_ids, split_hash
from training.enhancement.hands import load_enhancer, load_segmenter, made_by
from training.evaluation.calibration import LEVEL
from training.evaluation.gate_figures import figures_for_card
from training.evaluation.gating import Chain, fitting_sets, thresholds
from training.evaluation.measure import OnnxModel, segmenter_dice
from training.evaluation.typicality import fit_typicality
from training.jobs.command import JobConfig, command
from training.models.served import ServedReader, ServedSegmenter
from training.publish.export import export, parity
from training.publish.kinds import Kind, Measured, kind_of
from training.publish.material import MEASURED, Material
from training.publish.reader import Member, read_reader
from training.publish.store import (
    Attempt,
    check_release,
    may_move_pointer,
    numbered,
    published_weights,
    store_errors,
)
from training.run.exits import BadConfigurationError
from training.transfer.target import AgeTarget, CategoryTarget

NOTICE = (
    "Weights trained on radiographs of the RSNA 2017 Pediatric Bone Age Challenge: for academic research, education "
    "and other non-commercial use; cite Halabi SS et al., Radiology 2018;290(2):498-503. Not a medical device."
)
GATING: Final = ("validation", "calibration")


class PublishConfig(JobConfig):
    """What is published, and where to.

    A model without weights of its own is a version that the store holds already; where that goes for all of them, the
    job only calibrates: intervals and gates for these radiographs, in a release of their own. Of a model that
    `versions` does not number, new weights take the next number that is free, and else what serves now is taken.
    """

    dataset: Dataset
    masks: Path | None = None  # outlines that score a segmenter
    never_train: Path = MASK_TEST_CSV
    hands: Path
    store: str  # a folder, or s3://BUCKET/PREFIX
    signing_key: Path | None = None  # PEM, of an elliptic key; the release is not signed without
    work: Path
    release: str
    versions: dict[str, int] = Field(default_factory=dict)
    segmenter: Path | None = None
    enhancer: Path | None = None
    reader: Annotated[list[Path], Field(min_length=1)] | None = None  # of one descent: their weights are averaged
    backbone: str | None = None
    ensemble: list[Member] = Field(default_factory=list)  # other networks: their mean with the reader is what is served
    target: Annotated[AgeTarget | CategoryTarget, Field(discriminator="kind")] = AgeTarget()
    trained_with: dict[str, list[Path]] = Field(default_factory=dict)
    enhancement_study: Path | None = None  # its gate.json, for the enhancer's card
    maximum_structure_change: float
    maximum_interval_width_months: float
    refused_share: float
    turned_share: float
    fitting_images: int
    seed: int
    licence_notice: str = NOTICE

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Weights come with what else is needed to publish them."""
        if self.segmenter and self.masks is None:
            raise ValueError("a segmenter needs masks, the outlines that score it")
        if self.reader and self.backbone is None:
            raise ValueError("a reader needs backbone, the network that its weights belong to")
        if self.ensemble and not self.reader:
            raise ValueError("an ensemble needs reader, the first of its networks")
        if self.enhancement_study and not self.enhancer:
            raise ValueError("an enhancement_study needs enhancer, the weights that it is of")
        if not set(self.versions) <= set(self.models):
            raise ValueError(f"versions may only name {', '.join(self.models)}")
        if unexplained := [name for name in self.weights if name not in self.trained_with]:
            raise ValueError(f"trained_with does not say how {', '.join(unexplained)} was trained")
        return self

    @property
    def weights(self) -> dict[str, Path | list[Path]]:
        """Weights by model, of those models that have some here."""
        given = {SEGMENTER: self.segmenter, ENHANCER: self.enhancer, self.kind.model: self.reader}
        return {name: weights for name, weights in given.items() if weights is not None}

    @property
    def members(self) -> list[Member]:
        """The networks whose mean is served; none where the reader is one that the store has."""
        return [Member(self.backbone, self.reader), *self.ensemble] if self.reader and self.backbone else []

    @property
    def models(self) -> tuple[str, ...]:
        """What the release consists of."""
        return SEGMENTER, ENHANCER, self.kind.model

    @property
    def kind(self) -> Kind:
        """Whether ages are read or classes told apart."""
        return kind_of(self.target)


@store_errors()
def run(config: PublishConfig) -> None:
    """Do all of it; nothing is written to the store before everything is proven."""
    store = Store(config.store)
    attempt = Attempt(config.work, sha256(config.model_dump_json().encode()).hexdigest())
    if attempt.finished(store, config.release):
        print(f"release {config.release} was published already, by this run before it was stopped")
        return
    check_release(store, config.release, config.signing_key)
    revision = _revision()
    studied = _studied(config)
    versions = numbered(store, config.versions, config.models, new=config.weights)
    config = config.model_copy(update={"versions": versions})
    files = published_weights(store, config.versions, config.work / "published")
    if absent := [name for name in config.versions if name not in {*files, *config.weights}]:
        raise BadConfigurationError(f"the store lacks that version of {', '.join(absent)}; or name its weights")
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    radiographs = config.dataset.read()
    preparing = config.segmenter or files[SEGMENTER], config.enhancer or files[ENHANCER]
    material = Material.read(
        config.hands, made_by(*preparing, config.maximum_structure_change), radiographs, config.target
    )
    training = [r for r in radiographs if r.part == "train"]
    networks = _networks(config, training, files)
    new = [name for name in networks if name not in files]
    for name in new:
        files[name] = config.work / name / "model.onnx"
        export(networks[name].to(memory_format=torch.contiguous_format), CONTRACTS[name], files[name])
    agreement = {name: _parity(networks[name], name, files[name], material) for name in networks}

    kind = config.kind
    contract = CONTRACTS[kind.model]
    reader = OnnxModel(contract, files[kind.model])
    names = contract.outputs[0].name, "typicality"
    outputs = {part: reader.stream(material.hands(material.of(part)), names) for part in MEASURED}
    measured = {
        part: Measured(out[names[0]], material.labels[chosen], material.sexes[chosen])
        for part, out in outputs.items()
        for chosen in (material.of(part),)
    }
    gates = _gates(config, material, {part: outputs[part]["typicality"] for part in GATING})
    release = Release(
        id=config.release,
        models=config.versions,
        preprocessing_sha256=preprocessing_sha256(),
        interval_level=LEVEL,
        gates=gates,
        **kind.calibration(measured["validation"], measured["calibration"], measured["test"]),
    )
    for name in new:
        figures = (
            _read_figures(kind, measured, release)
            if name == kind.model
            else _measured(config, name, files[name]) | studied.get(name, {})
        )
        card = _card(config, training, name)
        card |= {"git_revision": revision, "metrics": figures, "parity": agreement[name]}
        publish_model(store, CONTRACTS[name], config.versions[name], files[name], card)
    attempt.note(store, release)
    publish_release(store, release, private_key=config.signing_key, current=may_move_pointer(store))
    attempt.ended()


def _networks(config: PublishConfig, training: Sequence[Radiograph], files: Mapping[str, Path]) -> dict[str, nn.Module]:
    """The graphs to export, of models with weights; the reader's with scores of typicality fitted on `training`."""
    segmenter = load_segmenter(config.segmenter or files[SEGMENTER])
    enhancer = load_enhancer(config.enhancer or files[ENHANCER])
    networks: dict[str, nn.Module] = {}
    if config.segmenter:
        networks[SEGMENTER] = ServedSegmenter(segmenter)
    if config.enhancer:
        networks[ENHANCER] = enhancer
    if config.members:
        reader = read_reader(config.members, config.target, sex_columns(training))
        chain = Chain(segmenter, enhancer, reader, config.maximum_structure_change)
        sets = fitting_sets(chain, training, count=config.fitting_images, seed=config.seed)
        kind = config.kind
        networks[kind.model] = ServedReader(reader, fit_typicality(*sets), scale=kind.scale, offset=kind.offset)
    return networks


def _parity(network: nn.Module, name: str, path: Path, material: Material) -> dict[str, float]:
    """How far an ONNX file is from torch, on hands at the model's size; a published version must be this network's."""
    contract = CONTRACTS[name]
    side = contract.inputs[0].dims[-1]
    examples = next(material.hands(material.of("validation")))
    inputs = np.stack([cv2.resize(hand, (side, side))[None] for hand in examples])
    return parity(network.to(memory_format=torch.contiguous_format), contract, path, inputs)


def _read_figures(kind: Kind, measured: Mapping[str, Measured], release: Release) -> dict[str, dict[str, Any]]:
    """Figures of the reader by part; of the test part also how often what the release is sure of holds."""
    figures = {part: kind.figures(values) for part, values in measured.items()}
    figures["test"]["coverage"] = kind.coverage(measured["test"], release)
    return figures


def _measured(config: PublishConfig, name: str, path: Path) -> dict[str, Any]:
    """Figures of a segmenter, on the outlines that nothing was trained on or selected with, or of an enhancer."""
    if name == ENHANCER and config.enhancer:
        return {"selection": {"l1": torch.load(config.enhancer, weights_only=True)["selection_l1"]}}
    assert config.masks is not None
    held = set(read_ids(config.never_train))
    pairs = read_masks(config.masks, config.dataset.true_shapes(), only=held)
    return {"mask_test": segmenter_dice(OnnxModel(CONTRACTS[SEGMENTER], path), pairs)}


def _studied(config: PublishConfig) -> dict[str, dict[str, Any]]:
    """By model, what a study found of it: of the enhancer, what its gate sees."""
    if not config.enhancement_study or not config.enhancer:
        return {}
    limit = config.maximum_structure_change
    return {ENHANCER: {"gate": figures_for_card(config.enhancement_study, config.enhancer, limit=limit)}}


def _gates(config: PublishConfig, material: Material, typicality: Mapping[str, NDArray[np.float32]]) -> GateThresholds:
    """The gates' limits, from scores of typicality (n, m) and the other figures of the parts that fit them."""
    of_parts = [material.of(part) for part in typicality]
    contrast, fraction, certainty = (
        np.concatenate([material.numbers(column, chosen) for chosen in of_parts])
        for column in ("contrast", "fraction", "certainty")
    )
    return thresholds(
        np.concatenate(list(typicality.values())),
        fraction,
        certainty,
        contrast,
        refused_share=config.refused_share,
        turned_share=config.turned_share,
        maximum_interval_width_months=config.maximum_interval_width_months,
        maximum_structure_change=config.maximum_structure_change,
    )


def _card(config: PublishConfig, training: Sequence[Radiograph], name: str) -> dict[str, Any]:
    """What a version was made from and with; the reader's also names its training radiographs."""
    card = {
        "trained_with": [yaml.safe_load(path.read_text()) for path in config.trained_with[name]],
        "seed": config.seed,
        "data_sha256": sha256(config.dataset.labels.read_bytes()).hexdigest(),
        "split_sha256": split_hash(config.dataset.split),
        "licence_notice": config.licence_notice,
    }
    if name == config.kind.model:
        ids = {radiograph.id for radiograph in training}
        card["training_ids"] = sorted(ids.union(*(member.training_ids() for member in config.members)))
        card["members"] = [member.card() for member in config.members]
    return card


def _revision() -> str:
    """The revision of this code: images, which hold no history, have it in the environment."""
    if known := os.environ.get("SOURCE_REVISION", ""):
        return known
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadConfigurationError(
            "SOURCE_REVISION does not say what this code is, and there is no git history"
        ) from error


if __name__ == "__main__":
    command(PublishConfig, run, __doc__)
