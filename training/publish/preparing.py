"""What cards say of the models that prepare hands: how a segmenter outlines, what an enhancer was chosen by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from services.core.domain.contracts import CONTRACTS, SEGMENTER
from training.data.masks import outlined, read_masks
from training.data.split import read_ids
from training.evaluation.gate_figures import figures_for_card
from training.evaluation.measure import OnnxModel, segmenter_dice
from training.models.exported import EXPORTED, UNREADABLE
from training.publish.card import card_beside
from training.run.exits import BadConfigurationError


def scoring_outlines(masks: Path, never_train: Path) -> frozenset[str]:
    """Ids of the outlines that score a segmenter, those that nothing was trained on or selected with.

    Raises BadConfigurationError where there is none, or one of them has no outline in `masks`.
    """
    held = frozenset(read_ids(never_train))
    if not held:
        raise BadConfigurationError(f"never_train: {never_train} names no outline to score the segmenter by")
    if missing := sorted(held - set(outlined(masks))):
        raise BadConfigurationError(
            f"never_train: {masks} lacks {len(missing)} of the {len(held)} outlines of {never_train} that score the "
            f"segmenter: {', '.join(missing[:5])}"
        )
    return held


def segmenter_figures(
    path: Path, masks: Path, held: frozenset[str], true_shapes: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """Dice of an exported segmenter on those outlines."""
    pairs = read_masks(masks, true_shapes, only=held)
    return {"mask_test": segmenter_dice(OnnxModel(CONTRACTS[SEGMENTER], path), pairs)}


def enhancer_figures(weights: Path, study: Path | None, *, limit: float) -> dict[str, Any]:
    """What a run's weights were chosen by, or what the card says beside a published version; and what a study found.

    Raises BadConfigurationError where the file is neither, or the study is of other weights or another limit.
    """
    gate = {"gate": figures_for_card(study, weights, limit=limit)} if study else {}
    try:
        if weights.suffix == EXPORTED:
            found = dict(card_beside(weights).get("metrics", {}))
        else:
            found = {"selection": {"l1": torch.load(weights, map_location="cpu", weights_only=True)["selection_l1"]}}
    except UNREADABLE as error:
        raise BadConfigurationError(f"enhancer: {weights}: {error}") from error
    return found | gate
