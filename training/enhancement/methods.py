"""What enhancement is compared by: nothing, CLAHE, and each enhancer as it is and as it is served, behind its gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import yaml
from numpy.typing import NDArray

from services.core.domain.release import CARD
from training.data.rows import as_bytes
from training.enhancement.clahe import equalised
from training.enhancement.degrade import KINDS
from training.enhancement.hands import EXPORTED, enhance, load_enhancer
from training.models.enhancer import UNetGenerator

Image = NDArray[np.float32]
NOTHING: Final = "nothing"
CLAHE: Final = "CLAHE"
CONFIG: Final = "config.yaml"
BY_SHARE: Final = ("collimation", "inversion")
"""Kinds of degradation that a run knows of where its configuration gives them a share."""
BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class Methods:
    """Enhancers by name, and the `limit` of the gate's structure change."""

    enhancers: Mapping[str, UNetGenerator]
    limit: float

    @classmethod
    def load(cls, enhancers: Mapping[str, Path], limit: float) -> Self:
        """With the weights of each. Raises BadConfigurationError."""
        return cls({name: load_enhancer(weights) for name, weights in enhancers.items()}, limit)

    @property
    def names(self) -> list[str]:
        """Of all methods, nothing first."""
        return [NOTHING, CLAHE, *(method for name in self.enhancers for method in (name, gated(name)))]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Which method is compared with which: all with nothing, the gate with none, and enhancer with enhancer."""
        return [
            *((name, NOTHING) for name in self.names[1:]),
            *((gated(name), name) for name in self.enhancers),
            *((one, other) for other, one in combinations(self.enhancers, 2)),
            *((gated(one), gated(other)) for other, one in combinations(self.enhancers, 2)),
        ]

    def __call__(self, hands: Image) -> dict[str, Image]:
        """What each method makes of hands (N, S, S) in [0, 1]."""
        parts = [self._of_batch(hands[start : start + BATCH]) for start in range(0, len(hands), BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}

    def _of_batch(self, hands: Image) -> dict[str, Image]:
        clahe = np.stack([equalised(as_bytes(hand)) for hand in hands])
        made = {NOTHING: hands, CLAHE: clahe.astype(np.float32) / np.float32(255)}
        for name, network in self.enhancers.items():
            made[name], changes = enhance(network, hands, maximum_structure_change=1)
            made[gated(name)] = np.where((changes <= self.limit)[:, None, None], made[name], hands)
        return made


def gated(name: str) -> str:
    """What an enhancer is called behind its gate."""
    return f"{name}, gated"


def trained_for(weights: Path) -> list[str] | None:
    """The kinds of degradation that an enhancer was trained to undo; None where nothing beside its weights says so.

    A run leaves its configuration there, a published version its card.
    """
    beside = weights.with_name(CARD if weights.suffix == EXPORTED else CONFIG)
    if not beside.exists():
        return None
    said: dict[str, Any] = yaml.safe_load(beside.read_text())
    runs = said.get("trained_with", [said])
    return [kind for kind in KINDS if kind not in BY_SHARE or any(run.get(f"{kind}_share") for run in runs)]
