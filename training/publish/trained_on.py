"""Which radiographs weights come from: those of their own run, and of all that it began with or learnt from."""

import json
from pathlib import Path
from typing import Final

import torch

from services.core.domain.release import CARD
from training.models.exported import EXPORTED, UNREADABLE
from training.run.exits import BadConfigurationError

TRAINED: Final = ".pt"
TRAINING_IDS: Final = "training_ids"
"""Of a card, and of a file of weights: names of the radiographs."""


def card_of_copy(exported: Path) -> Path:
    """Where the card of a `.onnx` file lies that is a copy from a store; of one in a store it is CARD."""
    return exported.with_suffix(".json")


def trained_on(weights: Path) -> set[str]:
    """Names of all of them, as a run's `weights.pt` says itself, or the card beside a published version.

    Empty where nothing says it: weights of other origin, or of runs that did not write it. Raises BadConfigurationError
    where a file cannot be read.
    """
    try:
        if weights.suffix == TRAINED:
            return set(torch.load(weights, map_location="cpu", weights_only=True).get(TRAINING_IDS, []))
        if weights.suffix == EXPORTED:
            for card in (card_of_copy(weights), weights.with_name(CARD)):
                if card.exists():
                    return set(json.loads(card.read_text()).get(TRAINING_IDS, []))
    except UNREADABLE as error:
        raise BadConfigurationError(f"{weights}: {error}") from error
    return set()
