"""Hands that do not lie with their fingers up: which quarter turn shows them upright, and what was read from it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain.gates import GateThresholds, Reason
from services.core.domain.ports import Tensors

QUARTERS: Final = (1, 2, 3)
"""Quarter turns, counterclockwise, that a hand is tried in after it was read as it came."""
DOUBTFUL: Final = 0.9
"""A mask of less certainty is looked for in QUARTERS too. One in a hundred radiographs has such a one with the fingers
up, most have it with the fingers to the side; and of its turns the most certain is nearly always that with them up."""
PIECE: Final = 0.5
"""A mask in another turn that covers less than this share of the one as it came is of a piece of the hand."""
ACTIVATION: Final = "activation"
TYPICALITY: Final = "typicality"


def surest_turn(certainties: Sequence[float], areas: Sequence[float]) -> int:
    """The quarter turn (0 for none) whose mask is taken, by certainty and area of the masks (4,) of 0 to 3 turns.

    It is the most certain one of those that cover at least PIECE of what the mask of the hand as it came does: of a
    pale hand a wrong turn may show nothing but a bone or two, and that for certain.
    """
    whole = [turn for turn in (0, *QUARTERS) if areas[turn] >= PIECE * areas[0]]
    return max(whole, key=lambda turn: certainties[turn])


def lies(scores: NDArray[np.float32], gates: GateThresholds) -> bool:
    """Whether scores of typicality (K,) are those of a hand whose fingers are not up."""
    return any(not scores[column] >= minimum for column, minimum in _limits(gates))


def in_quarters(hand: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square (1, 1, S, S) in each of QUARTERS (3, 1, S, S)."""
    return np.concatenate([np.rot90(hand, quarter, axes=(2, 3)) for quarter in QUARTERS])


def upright_again(outputs: Tensors, gates: GateThresholds) -> tuple[Tensors, int] | None:
    """Of a reader's outputs (3, ...) for `in_quarters`, those of the most upright turn (1, ...), and its quarter turns.

    The activation grid is turned back, so that it lies on the hand as that came. None where no turn is upright.
    """
    limits = _limits(gates)
    scores = outputs[TYPICALITY][:, [column for column, _ in limits]]
    best = int(np.argmax((scores - [minimum for _, minimum in limits]).min(axis=1)))
    if lies(outputs[TYPICALITY][best], gates):
        return None
    found = {name: values[best : best + 1] for name, values in outputs.items()}
    found[ACTIVATION] = np.ascontiguousarray(np.rot90(found[ACTIVATION], -QUARTERS[best], axes=(2, 3)))
    return found, QUARTERS[best]


def _limits(gates: GateThresholds) -> list[tuple[int, float]]:
    """Columns of the scores that tell whether a hand is upright, each with the least that passes."""
    return [
        (column, limit.minimum) for column, limit in enumerate(gates.typicality) if limit.reason is Reason.NOT_UPRIGHT
    ]
