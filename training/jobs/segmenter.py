"""Trains one FC-DenseNet on hand outlines: `python -m training.jobs.segmenter --config FILE`.

With `pseudo_labels` it first outlines further training radiographs with the model it starts from and learns from those
that this one sees alike however they are shown: half of each batch is theirs, half was drawn by people.
"""

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from pydantic import Field

from services.core.domain.preprocess import SEGMENT_PX, segmenter_input
from services.core.errors import InvalidRadiographError
from training.active_learning.learner import Outlines, Phase, SegmenterLearner, new_network
from training.active_learning.pseudo_labels import pseudo_label
from training.data.masks import outlined, outlines_digest, read_masks, segmenter_pair
from training.data.radiographs import Dataset, Radiograph, image_files, report_missing
from training.data.rows import Column, Rows, as_bytes
from training.data.split import MASK_TEST_CSV, read_ids, read_split
from training.enhancement.hands import load_segmenter
from training.evaluation.curves import draw_curves
from training.jobs.begun import STATE, check_begun, check_learnt_from, keep_begun
from training.jobs.command import JobConfig, command
from training.models.segmenter import FCDenseNet
from training.publish.digests import digest
from training.run.advance import advancing
from training.run.checkpoint import Checkpoint, save_whole
from training.run.claim import alone
from training.run.exits import BadConfigurationError
from training.run.journal import Journal, read_journal
from training.run.results import write_json
from training.run.steps import run_steps

LOG = logging.getLogger(__name__)
SIDE: Final = (SEGMENT_PX, SEGMENT_PX)
OUTLINES: Final[dict[str, Column]] = {"image": (SIDE, "uint8"), "mask": (SIDE, "bool")}
PSEUDO_LABELS: Final[dict[str, Column]] = OUTLINES | {"agreement": ((), "float32")}


class PseudoLabelConfig(JobConfig):
    """How many training radiographs are outlined, and the least agreement (Dice) that makes an outline a label."""

    radiographs: int = Field(ge=1)
    agreement: float = Field(ge=0, le=1)


class SegmenterConfig(JobConfig):
    """Everything a run depends on; it goes whole into the model's card.

    `masks` holds the folders `image` and `mask`; those that `never_train` (CSV, id) names are left out, and so are
    `selection_images` that choose the best weights. `start_from` is the `weights.pt` of another run, or the
    `model.onnx` of a published version.
    """

    dataset: Dataset
    masks: Path
    never_train: Path = MASK_TEST_CSV
    out: Path
    start_from: Path | None = None
    seed: int
    selection_images: int = Field(ge=1)
    validate_every: int = Field(ge=1)
    pseudo_labels: PseudoLabelConfig | None = None
    phases: list[Phase] = Field(min_length=1)
    checkpoint_every_s: float = Field(120.0, gt=0)


def run(config: SegmenterConfig) -> None:
    """Train, or go on; `weights.pt` are the best on the selection images, `curves.png` shows the way there."""
    cv2.setNumThreads(1)
    with alone(config.out):
        _train(config)


def _train(config: SegmenterConfig) -> None:
    check_begun(config, config.out)
    network = _network(config)
    ids = _to_learn_from(config)
    others = []
    if config.pseudo_labels is not None:
        masks = image_files(config.masks / "mask")
        never = set(read_ids(config.never_train))
        others = [r for r in config.dataset.read() if r.part == "train" and r.id not in {*masks, *never}]
    learnt_from = {
        "outlines": outlines_digest(config.masks, ids, config.dataset.true_shapes()),
        "radiographs without outlines": sha256(repr([(r.id, r.origin) for r in others]).encode()).hexdigest(),
        "weights to start from": digest(config.start_from) if config.start_from else "",
    }
    check_learnt_from(learnt_from, config.out)
    drawn = _drawn(config, ids, made_by=learnt_from["outlines"])
    order = np.random.default_rng(0).permutation(len(drawn))  # the same in every run, whatever its seed
    selection, train = order[: config.selection_images], order[config.selection_images :]
    sources = [drawn.chosen(train)]
    keep_begun(config, learnt_from, config.out)
    if config.pseudo_labels is not None:
        made_by = learnt_from["weights to start from"] or f"seed {config.seed}"
        sources.append(
            pseudo_labels(
                network, others, config.pseudo_labels, config.out / "pseudo-labels", seed=config.seed, made_by=made_by
            )
        )
    learner = SegmenterLearner(
        network, sources=sources, selection=drawn.chosen(selection), phases=config.phases,
        validate_every=config.validate_every, seed=config.seed,
    )  # fmt: skip
    with Journal(config.out, title="segmenter", total=learner.steps) as journal:
        checkpoint = Checkpoint(config.out / STATE, every_s=config.checkpoint_every_s)
        run_steps(learner, steps=learner.steps, checkpoint=checkpoint, journal=journal)
    save_whole({"model": learner.best, "selection_dice": learner.score}, config.out / "weights.pt")
    write_json(config.out / "figures.json", {"selection_dice": learner.score})
    draw_curves(read_journal(config.out), config.out / "curves.png", images_a_step=config.phases[-1].batch_size)


def _network(config: SegmenterConfig) -> FCDenseNet:
    return new_network(config.seed) if config.start_from is None else load_segmenter(config.start_from)


def _to_learn_from(config: SegmenterConfig) -> list[str]:
    """Ids of the outlines to learn from and to select with; how many of the others there are is told."""
    never, there = set(read_ids(config.never_train)), outlined(config.masks)
    held = never.intersection(there)
    if never and not held:
        raise BadConfigurationError(
            f"never_train: {config.masks} has none of the outlines of {config.never_train}; name those of yours that "
            "score the segmenter"
        )
    parts = read_split(config.dataset.split)
    free = [id_ for id_ in there if id_ not in held]
    ids = [id_ for id_ in free if parts.get(id_, "train") == "train"]
    report_missing("are outlined, but not of the train part, and left out", sorted(set(free) - set(ids)), of=len(free))
    LOG.info("%d outlines to learn from and to select with; %d that score are left out", len(ids), len(held))
    if len(ids) <= config.selection_images:
        raise BadConfigurationError(f"{config.masks}: {len(ids)} outlines leave none to train on")
    return ids


def _drawn(config: SegmenterConfig, ids: Sequence[str], *, made_by: str) -> Outlines:
    """What people outlined, as the network sees it; kept beside the run, and read from there one by one."""
    kept = Rows.make(config.out / "outlines", ids, OUTLINES, made_by=made_by, anew=True)
    missing = {ids[row]: row for row in kept.missing}
    for pair in read_masks(config.masks, config.dataset.true_shapes(), only=missing):
        image, mask = segmenter_pair(pair)
        kept.write(np.array([missing[pair.id]]), image=as_bytes(image)[None], mask=(mask >= 0.5)[None])
    return Outlines(kept.columns["image"], kept.columns["mask"], np.arange(len(ids)))


def pseudo_labels(
    network: FCDenseNet,
    radiographs: Sequence[Radiograph],
    config: PseudoLabelConfig,
    folder: Path,
    *,
    seed: int,
    made_by: str,
) -> Outlines:
    """The pseudo-labels that reach the agreement, of as many drawn radiographs as are wanted; kept in `folder`."""
    order = np.random.default_rng(seed).permutation(len(radiographs))[: config.radiographs]
    chosen = [radiographs[int(index)] for index in order]
    kept = Rows.make(folder, [r.id for r in chosen], PSEUDO_LABELS, made_by=made_by)
    network.eval()
    failed, missing = [], kept.missing
    with advancing(folder, title="pseudo-labels", total=len(chosen)) as advance:
        advance.kept(len(chosen) - len(missing))
        for row in missing:
            try:
                image = segmenter_input(chosen[row].frame())
            except (InvalidRadiographError, OSError) as error:
                LOG.warning("%s: %s", chosen[row].id, error)
                failed.append(chosen[row].id)
                continue
            mask, agreement = pseudo_label(network, image)
            kept.write(
                np.array([row]), image=as_bytes(image)[None], mask=mask[None],
                agreement=np.array([agreement], np.float32),
            )  # fmt: skip
            advance(1, agreement=agreement)
    report_missing("cannot be read", failed, of=len(chosen))
    sure = np.flatnonzero(kept.done & (kept.columns["agreement"] >= config.agreement))
    LOG.info("%d of %d outlines agree and are learnt from", len(sure), len(chosen))
    if not len(sure):
        raise BadConfigurationError(f"pseudo_labels: no outline reaches an agreement of {config.agreement}")
    return Outlines(kept.columns["image"], kept.columns["mask"], sure)


if __name__ == "__main__":
    command(SegmenterConfig, run, __doc__)
