"""What networks learn from, and what they start as: prepared images with labels, and weights."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from services.core.domain.contracts import CONTRACTS
from training.data.radiographs import Dataset, Radiograph, report_missing, sex_columns
from training.data.rows import Rows
from training.enhancement.hands import BADLY_STORED
from training.jobs.command import JobConfig
from training.jobs.lessons import Teacher
from training.models.backbones import PROBE_PX, StageMap
from training.models.exported import EXPORTED, UNREADABLE, load_exported_reader, restore_statistics
from training.models.regressor import TransferNetwork
from training.publish.digests import digest
from training.publish.kinds import kind_of
from training.run.exits import BadConfigurationError
from training.transfer.images import Examples, Stored
from training.transfer.target import AgeTarget, CategoryTarget, Target

LOG = logging.getLogger(__name__)
Hub = Literal["imagenet"]
"""In place of a file: what timm's hub has."""
IMAGENET: Final = ".safetensors"
STATISTICS_IMAGES: Final = 1024
STATISTICS_BATCH: Final = 32
LEARNT: Final = ("train", "validation")
HEAD: Final = "head."
HEAD_BIAS: Final = "head.bias"


class Source(JobConfig):
    """Labelled radiographs, the folder where `training.jobs.hands` put what it made of them, and the column to use.

    `bad_files` is another such folder, made with `badly_stored`: a third of what is augmented comes from there, and
    no other bad files are drawn.
    """

    dataset: Dataset
    hands: Path
    bad_files: Path | None = None
    images: str = "enhanced"
    side_px: int = Field(224, ge=32)


def examples(source: Source, radiographs: Sequence[Radiograph], target: Target) -> Examples:
    """Labelled images of some radiographs; those that were not prepared are left out, counted and named."""
    prepared = _prepared(source, source.hands, badly_stored=False)
    rows = prepared.find([radiograph.id for radiograph in radiographs])
    absent = [radiograph.id for radiograph, row in zip(radiographs, rows, strict=True) if row < 0]
    report_missing(f"are not in {source.hands}", absent, of=len(radiographs))
    there = [radiograph for radiograph, row in zip(radiographs, rows, strict=True) if row >= 0]
    labels = np.array([_number(source, radiograph, target) for radiograph in there], np.float32)
    return Examples(prepared.columns[source.images], rows[rows >= 0], labels, sex_columns(there), source.side_px)


def learnt_from(
    source: Source, radiographs: Sequence[Radiograph], *, weights: Path | Hub | None, teacher: Teacher | None
) -> dict[str, str]:
    """Digests of what a run learns from, by name: its radiographs' labels and hands, and the weights of others."""
    seen = [r for r in radiographs if r.part in LEARNT]
    ids, labels = [r.id for r in seen], [(r.id, r.label, r.sex, r.part) for r in seen]
    try:
        return {
            "labels": sha256(json.dumps(labels).encode()).hexdigest(),
            "hands": Rows.read(source.hands).digest(ids),
            "hands from bad files": Rows.read(source.bad_files).digest(ids) if source.bad_files else "",
            "weights to start from": digest(weights) if isinstance(weights, Path) else str(weights),
            "teachers": json.dumps([member.card() for member in teacher.members]) if teacher else "",
        }
    except OSError as error:
        raise BadConfigurationError(str(error)) from error


def with_bad_files(source: Source, train: Examples) -> Examples:
    """The same with what was made of their bad files, where the source has any; those without are counted and named."""
    if source.bad_files is None:
        return train
    bad, ids = _prepared(source, source.bad_files, badly_stored=True), Rows.read(source.hands).ids
    learnt = [ids[row] for row in train.rows]
    rows = bad.find(learnt)
    lacking = [id_ for id_, row in zip(learnt, rows, strict=True) if row < 0]
    report_missing(f"are not in {source.bad_files}", lacking, of=len(learnt))
    if len(lacking) == len(learnt):
        raise BadConfigurationError(f"bad_files: none of these radiographs is in {source.bad_files}")
    return replace(train, bad_files=Stored(bad.columns[source.images], rows))


def _prepared(source: Source, folder: Path, *, badly_stored: bool) -> Rows:
    prepared = Rows.read(folder)
    if (BADLY_STORED in prepared.made_by) != badly_stored:
        name, wrong = ("bad_files", "without") if badly_stored else ("hands", "with")
        raise BadConfigurationError(f"{name}: {folder} was prepared {wrong} badly_stored")
    if source.images not in prepared.columns:
        raise BadConfigurationError(f"images: {folder} has no {source.images!r} but {list(prepared.columns)}")
    return prepared


def _number(source: Source, radiograph: Radiograph, target: Target) -> float:
    try:
        return target.number(radiograph.label)
    except ValueError as error:
        raise BadConfigurationError(f"{source.dataset.labels}: {radiograph.id}: {error}") from error


def network(
    backbone: str,
    start_from: Path | Hub | None,
    target: AgeTarget | CategoryTarget,
    *,
    seed: int,
    images: Examples | None,
    stage_map: StageMap | None = None,
) -> TransferNetwork:
    """The network with the weights to start from; from a run or a version with other outputs, those before the head.

    The export of a version leaves its batch norms without statistics: these are taken of `images` again, unless there
    are none, since a checkpoint has them.

    Raises BadConfigurationError where they are another network's or where the backbone cannot be cut into flows;
    FailedError where the hub does not give them.
    """
    torch.manual_seed(seed)
    try:
        result = TransferNetwork(backbone, target.outputs, stage_map=stage_map)
        result.flows()
        if start_from is not None:
            _load(result, start_from, target)
    except UNREADABLE as error:
        raise BadConfigurationError(f"{backbone} from {start_from}: {error}") from error
    if isinstance(start_from, Path) and start_from.suffix == EXPORTED and images is not None:
        restore_statistics(result, _as_in_training(images))
    return result


def _load(result: TransferNetwork, start_from: Path | Hub, target: AgeTarget | CategoryTarget) -> None:
    if isinstance(start_from, str):
        result.load_from_hub()
    elif start_from.suffix == IMAGENET:
        result.load_imagenet(start_from)
    elif start_from.suffix == EXPORTED:
        _load_exported(result, start_from, target)
    else:
        trained = torch.load(start_from, map_location="cpu", weights_only=True)["model"]
        if trained[HEAD_BIAS].shape != result.state_dict()[HEAD_BIAS].shape:  # another question: a head of its own
            trained |= {name: value for name, value in result.state_dict().items() if name.startswith(HEAD)}
        result.load_state_dict(trained)


def _load_exported(result: TransferNetwork, path: Path, target: AgeTarget | CategoryTarget) -> None:
    kind = kind_of(target)
    example = torch.zeros(1, 1, PROBE_PX, PROBE_PX)
    load_exported_reader(result, path, example, contract=CONTRACTS[kind.model], scale=kind.scale, offset=kind.offset)


def _as_in_training(images: Examples) -> Iterator[Tensor]:
    """Batches (B, 1, S, S) of up to `STATISTICS_IMAGES` of them, from first to last, changed as in training."""
    LOG.info("the statistics of batch norms are taken again")
    chosen = np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).astype(int).tolist()
    for start in range(0, len(chosen), STATISTICS_BATCH):
        batch = [images.augmented(index, (index,)) for index in chosen[start : start + STATISTICS_BATCH]]
        yield torch.from_numpy(np.stack(batch)[:, None])
