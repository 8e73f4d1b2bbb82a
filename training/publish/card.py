"""What the card of a version says of how it was made."""

import json
import os
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import yaml

from services.core.domain.release import CARD
from training.data.radiographs import Dataset, Radiograph
from training.data.split import split_hash
from training.publish.reader import Member
from training.publish.trained_on import TRAINING_IDS
from training.run.exits import BadConfigurationError

NOTICE: Final = (
    "Weights trained on radiographs of the RSNA 2017 Pediatric Bone Age Challenge: for academic research, education "
    "and other non-commercial use; cite Halabi SS et al., Radiology 2018;290(2):498-503. Not a medical device."
)

ORIGIN: Final = ("trained_with", "seed", "data_sha256", "split_sha256", "licence_notice", "git_revision")


def origin(dataset: Dataset, trained_with: Sequence[Path], *, seed: int, licence_notice: str | None) -> dict[str, Any]:
    """The configurations that a version was trained with, the data and the code."""
    return {
        "trained_with": [yaml.safe_load(path.read_text()) for path in trained_with],
        "seed": seed,
        "data_sha256": sha256(dataset.labels.read_bytes()).hexdigest(),
        "split_sha256": split_hash(dataset.split),
        "licence_notice": licence_notice,
        "git_revision": revision(),
    }


def card_beside(exported: Path) -> dict[str, Any]:
    """The card of the published version whose file this is; empty where there is none.

    Raises BadConfigurationError where it cannot be read.
    """
    path = exported.with_name(CARD)
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise BadConfigurationError(f"{path} is no card: {error}") from error


def origin_beside(exported: Path) -> dict[str, Any]:
    """What `origin` said of the published version whose file this is, as its card has it.

    Raises BadConfigurationError where there is no such card.
    """
    card = card_beside(exported)
    if "trained_with" not in card:
        raise BadConfigurationError(f"trained_with does not say how {exported} was trained, nor does a card beside it")
    return {key: card[key] for key in ORIGIN if key in card}


def descent(members: Sequence[Member], learnt: Sequence[Radiograph]) -> dict[str, Any]:
    """The networks that a reader consists of, and all radiographs that they and what they come from learnt from."""
    ids = {radiograph.id for radiograph in learnt}
    return {
        TRAINING_IDS: sorted(ids.union(*(member.training_ids() for member in members))),
        "members": [member.card() for member in members],
    }


def revision() -> str:
    """The revision of this code, wherever it is run from: images, which hold no history, have it in the environment.

    Raises BadConfigurationError where neither says it.
    """
    if known := os.environ.get("SOURCE_REVISION", ""):
        return known
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # the history around it may be another project's
        return _git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadConfigurationError(
            "SOURCE_REVISION does not say what this code is, and there is no git history"
        ) from error


def _git(*arguments: str) -> str:
    asked = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - no input
