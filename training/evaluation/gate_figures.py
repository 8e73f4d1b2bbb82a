"""What a study of enhancement found of the gate, as a file: the card of a published enhancer states it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from training.enhancement.planted import Detection
from training.run.exits import BadConfigurationError

AT_FALSE_ALARMS: Final = "at 5% false alarms"
AS_SERVED: Final = "as served"


def gate_figures(
    found: Mapping[str, Detection], enhancers: Mapping[str, Path], *, limit: float, hands: int
) -> dict[str, Any]:
    """Figures by what the limit is, of so many `hands`, with the enhancers that were studied and the gate's `limit`."""
    return {
        "enhancers": {name: _digest(weights) for name, weights in enhancers.items()},
        "limit": limit,
        "hands": hands,
        **{
            name: {
                "limit": one.limit,
                "false_alarms": one.false_alarms,
                "detected": [
                    {"kind": kind, "diameter_px": px, "share": share, "n": n}
                    for (kind, px), (share, n) in one.detected.items()
                ],
            }
            for name, one in found.items()
        },
    }


def figures_for_card(path: Path, weights: Path, *, limit: float) -> dict[str, Any]:
    """What the card of an enhancer with these weights states of its gate.

    Raises BadConfigurationError where the study was of other weights, or of another limit.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        studied, studied_limit = list(found.pop("enhancers").values()), float(found.pop("limit"))
        stated = {name: found[name] for name in ("hands", AT_FALSE_ALARMS, AS_SERVED)}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadConfigurationError(f"{path} holds no figures of a study of enhancement: {error}") from error
    if (own := _digest(weights)) not in studied:
        raise BadConfigurationError(f"{path} is of other weights than {weights}: study these first")
    if studied_limit != limit:
        raise BadConfigurationError(f"{path} is of the limit {studied_limit}, not of {limit}: study this one first")
    return stated | {"weights_sha256": own}


def _digest(weights: Path) -> str:
    try:
        return sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise BadConfigurationError(str(error)) from error
