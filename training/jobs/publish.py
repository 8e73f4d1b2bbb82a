"""Exports, proves, calibrates and publishes one release: `python -m training.jobs.publish --config FILE`.

The validation part and the calibration part set the limits of the gates, as they are and, where it is asked for,
disturbed; the calibration part fits the intervals; the test part is read once.
`release.png` in the folder `work` shows how well the release reads, and how often what it is sure of holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.core.adapters.model_repository import preprocessing_sha256
from services.core.adapters.publishing import publish_release
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS, ENHANCER, SEGMENTER
from services.core.domain.gates import GateThresholds
from services.core.domain.release import WEIGHTS, Release
from services.core.domain.upright import TYPICALITY
from training.data.radiographs import Radiograph, report_missing, sex_columns
from training.enhancement.hands import made_by as made_by_models
from training.evaluation.calibration import LEVEL
from training.evaluation.disturbed import Disturbed
from training.evaluation.gating import BEFORE_READING, Chain, Disturbance, Figures, FittingSets, Preparing, thresholds
from training.evaluation.measure import OnnxModel
from training.evaluation.typicality import fit_typicality
from training.jobs.command import command
from training.jobs.publish_config import PublishConfig
from training.models.served import ServedReader, ServedSegmenter
from training.publish.card import descent, origin, origin_beside
from training.publish.digests import code, digest
from training.publish.kinds import Measured
from training.publish.material import MEASURED, Material
from training.publish.preparing import enhancer_figures, scoring_outlines, segmenter_figures
from training.publish.proven import Proven
from training.publish.reader import read_reader
from training.publish.readings import readings
from training.publish.store import (
    Attempt,
    check_release,
    may_move_pointer,
    numbered,
    publish_new,
    published_weights,
    store_errors,
)
from training.publish.trained_on import trained_on
from training.run.advance import Advance, advancing
from training.run.claim import claimed
from training.run.exits import BadConfigurationError

GATING: Final = ("validation", "calibration")
RELEASE_PNG: Final = "release.png"
KNOWN: Final = (
    "measure or calibrate, and have the name of one that the weights, or what they come from, were trained on: if they "
    "are the same, the release seems better than it is"
)


@store_errors()
def run(config: PublishConfig) -> None:
    """Do all of it, or go on where it was killed; nothing is written to the store before everything is proven."""
    store = Store(config.store)
    attempt = Attempt(config.work, sha256(config.model_dump_json().encode()).hexdigest())
    with claimed(config.work, wait=True):
        if attempt.finished(store, config.release):
            print(f"release {config.release} was published already, by this run before it was stopped")
            return
        check_release(store, config.release, config.signing_key)
        (config.work / RELEASE_PNG).unlink(missing_ok=True)
        _publish(config, store, attempt)


def _publish(config: PublishConfig, store: Store, attempt: Attempt) -> None:
    enhancing = (
        enhancer_figures(config.enhancer, config.enhancement_study, limit=config.maximum_structure_change)
        if config.enhancer
        else {}
    )
    held = scoring_outlines(config.masks, config.never_train) if config.segmenter and config.masks else frozenset()
    unnumbered = [name for name in config.weights if name not in config.versions]
    versions = numbered(store, config.versions, [name for name in config.models if name not in unnumbered])
    files = published_weights(store, versions, config.work / "published")
    new = [name for name in config.weights if name not in files]
    if absent := [name for name in config.models if name not in {*files, *new}]:
        raise BadConfigurationError(f"the store lacks that version of {', '.join(absent)}; or name its weights")
    preparing = config.segmenter or files[SEGMENTER], config.enhancer or files[ENHANCER]
    made_by = _made_by(config, preparing)
    cards = {name: _origin(config, name) for name in new}
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    radiographs = config.dataset.read()
    made_hands = made_by_models(*preparing, config.maximum_structure_change)
    material = Material.read(config.hands, made_hands, radiographs, config.target)
    _warn_of_known(config, files, material)
    kind, training = config.kind, [r for r in radiographs if r.part == "train"]
    fitting = FittingSets(training, config.fitting_images, config.seed, config.work / "features", made_by)
    disturbing = _disturbing(config, radiographs, material, made_by)
    fitted, heeded = (len(fitting.chosen) if config.members else 0), (len(disturbing.chosen) if disturbing else 0)
    with advancing(config.work, title="publish", total=len(material.rows) + fitted + heeded) as advance:
        prepare = Preparing.read(*preparing, config.maximum_structure_change)
        proven = _proven(config, prepare, fitting, files, material, advance)
        files |= {name: proven[name].path for name in new}
        contract, path = CONTRACTS[kind.model], files[kind.model]
        reader, folder, said_by = OnnxModel(contract, path), config.work / "readings", f"{digest(path)} {code()}"
        outputs = readings(reader, material, folder, said_by=said_by, advance=advance)
        disturbed = disturbing.figures(prepare, reader, said_by=said_by, advance=advance) if disturbing else {}
    values = outputs[contract.outputs[0].name]
    measured = {
        part: Measured(values[chosen], material.labels[chosen], material.sexes[chosen])
        for part in MEASURED
        for chosen in (material.of(part),)
    }
    calibration = kind.calibration(measured["validation"], measured["calibration"], measured["test"])
    gates = _gates(config, material, outputs[TYPICALITY], disturbed)
    release = Release(config.release, versions, preprocessing_sha256(), LEVEL, gates, **calibration)
    figures = {part: kind.figures(values) for part, values in measured.items()}
    figures["test"]["coverage"] = kind.coverage(measured["test"], release)
    kind.draw(measured["test"], figures, release, config.work / RELEASE_PNG)
    for name in new:
        cards[name]["parity"] = proven[name].parity
        if name == kind.model:
            cards[name] |= descent(config.members, training) | {"metrics": figures}
        elif name == ENHANCER:
            cards[name]["metrics"] = enhancing
        elif config.masks:
            shapes = config.dataset.true_shapes()
            cards[name]["metrics"] = segmenter_figures(files[name], config.masks, held, shapes)
    for name in new:
        versions[name] = publish_new(store, name, versions.get(name), files[name], cards[name], token=attempt.token)
    release = replace(release, models={name: versions[name] for name in config.models})
    attempt.note(store, release)
    publish_release(store, release, private_key=config.signing_key, current=may_move_pointer(store))
    attempt.ended()


def _origin(config: PublishConfig, model: str) -> dict[str, Any]:
    """How new weights came to be: as the configuration says, or the card of the version that they are."""
    if model not in config.trained_with:
        return origin_beside(config.exported[model])
    return origin(config.dataset, config.trained_with[model], seed=config.seed, licence_notice=config.notice)


def _made_by(config: PublishConfig, preparing: Sequence[Path]) -> str:
    """What all that is kept in the folder `work` depends on beside the radiographs. Raises BadConfigurationError."""
    tables = config.dataset.labels, config.dataset.split, config.dataset.sizes
    weights = [path for member in config.members for path in member.weights]
    try:
        files = [digest(path) for path in (*tables, *preparing, *weights) if path]
    except OSError as error:
        raise BadConfigurationError(str(error)) from error
    settings = config.model_dump_json(
        include={"dataset", "backbone", "ensemble", "target", "maximum_structure_change", "fitting_images", "seed"}
    )
    return " ".join([settings, code(), *files])


def _disturbing(
    config: PublishConfig, all_: Sequence[Radiograph], material: Material, made_by: str
) -> Disturbed | None:
    """The radiographs of GATING that the gates heed disturbed as well, if they shall."""
    if not config.disturbed_share:
        return None
    there, maker = set(material.ids), f"{made_by} {material.digest()}"
    gating = [r for r in all_ if r.part in GATING and r.id in there]
    kinds = tuple(config.disturbed_share)
    return Disturbed(gating, config.fitting_images, config.seed, config.work / "disturbed", maker, kinds)


def _warn_of_known(config: PublishConfig, files: Mapping[str, Path], material: Material) -> None:
    """Name and count the radiographs that measure and that the weights, new ones or those there, may know already."""
    members = [member.training_ids() for member in config.members] or [trained_on(files[config.kind.model])]
    known = set().union(*members)
    report_missing(KNOWN, [id_ for id_ in material.ids if id_ in known], of=len(material.ids))


def _proven(
    config: PublishConfig,
    prepare: Preparing,
    fitting: FittingSets,
    files: Mapping[str, Path],
    material: Material,
    advance: Advance,
) -> dict[str, Proven]:
    """The models with weights, exported; the reader's with scores of typicality fitted on radiographs of training.

    A version that is published already must be this network's; so must the file of one that gets another number.
    """
    kind, result = config.kind, dict[str, Proven]()
    made_by = f"{fitting.made_by} {fitting.digest()}"

    def network(name: str) -> nn.Module:
        if name == SEGMENTER:
            return ServedSegmenter(prepare.segmenter)
        if name == ENHANCER:
            return prepare.enhancer
        reader = read_reader(config.members, config.target, sex_columns(fitting.radiographs))
        typicality = fit_typicality(*fitting.features(Chain(prepare, reader), advance))
        return ServedReader(reader, typicality, scale=kind.scale, offset=kind.offset)

    for name in config.weights:
        advance.kept(0)
        folder, published = config.work / name, files.get(name) or config.exported.get(name)
        kept = Proven.kept(folder, made_by, published or folder / WEIGHTS)
        if kept and name == kind.model:
            advance.kept(len(fitting.chosen))
        result[name] = kept or Proven.of(
            network(name),
            CONTRACTS[name],
            folder,
            made_by=made_by,
            published=published,
            images=material.examples(CONTRACTS[name].inputs[0].dims[-1]),
        )
    return result


def _gates(
    config: PublishConfig, material: Material, typicality: NDArray[np.float32], disturbed: Mapping[Disturbance, Figures]
) -> GateThresholds:
    """The gates' limits, from scores of typicality (N, m) of all of `material` and the other figures of GATING."""
    chosen = material.of(*GATING)
    return thresholds(
        {TYPICALITY: typicality[chosen], **{name: material.numbers(name, chosen) for name in BEFORE_READING}},
        disturbed,
        config.gate_shares,
        maximum_interval_width_months=config.maximum_interval_width_months,
        maximum_structure_change=config.maximum_structure_change,
    )


if __name__ == "__main__":
    command(PublishConfig, run, __doc__)
