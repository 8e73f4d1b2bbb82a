"""The network that a release reads with, from the weights that its configuration names."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from services.core.domain.contracts import CONTRACTS, SEX_ORDER
from training.models.backbones import PROBE_PX
from training.models.ensemble import Ensemble, Reader
from training.models.exported import EXPORTED, UNREADABLE, load_exported_reader
from training.models.regressor import TransferNetwork
from training.publish.averaging import mean_weights
from training.publish.kinds import kind_of
from training.publish.trained_on import trained_on
from training.run.exits import BadConfigurationError
from training.transfer.target import AgeTarget, CategoryTarget

UNKNOWN: Final = SEX_ORDER.index("unknown")


@dataclass(frozen=True, slots=True)
class Member:
    """A network: its backbone, and `weights.pt` of runs of one descent, which are averaged, or one `model.onnx`."""

    backbone: str
    weights: Annotated[list[Path], Field(min_length=1)]

    def card(self) -> dict[str, Any]:
        """What a version's card says of it."""
        return {
            "backbone": self.backbone,
            "weights_sha256": [sha256(path.read_bytes()).hexdigest() for path in self.weights],
        }

    def training_ids(self) -> set[str]:
        """Radiographs that its weights, and those that they come from, were trained on, so far as these say it."""
        return set().union(*map(trained_on, self.weights))


def read_reader(members: Sequence[Member], target: AgeTarget | CategoryTarget, sexes: NDArray[np.int64]) -> Reader:
    """The network, or the mean of several; of a sex that none of the radiographs (N,) had it knows what of unknown.

    Raises BadConfigurationError where weights are not their backbone's, or the members do not go together.
    """
    networks = [_network(member, target) for member in members]
    try:
        reader: Reader = networks[0] if len(networks) == 1 else Ensemble(networks).eval()
        with torch.inference_mode():
            reader(torch.zeros(1, *CONTRACTS[kind_of(target).model].inputs[0].dims))
    except ValueError as error:
        raise BadConfigurationError(str(error)) from error
    if isinstance(target, AgeTarget):
        for column in set(range(len(SEX_ORDER))) - {UNKNOWN, *sexes.tolist()}:
            reader.head.weight.data[column] = reader.head.weight.data[UNKNOWN]
            reader.head.bias.data[column] = reader.head.bias.data[UNKNOWN]
    return reader


def _network(member: Member, target: AgeTarget | CategoryTarget) -> TransferNetwork:
    exported = any(path.suffix == EXPORTED for path in member.weights)
    try:
        network = TransferNetwork(member.backbone, target.outputs)
        if exported:
            _load_published(network, member.weights, target)
        else:
            network.load_state_dict(mean_weights([_trained(path) for path in member.weights]))
    except UNREADABLE as error:
        places = ", ".join(map(str, member.weights))
        raise BadConfigurationError(f"{member.backbone} from {places}: {error}") from error
    return network.eval()


def _trained(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
    return weights


def _load_published(network: TransferNetwork, paths: Sequence[Path], target: AgeTarget | CategoryTarget) -> None:
    if len(paths) > 1:
        raise ValueError("a published version has lost the statistics of its batch norms: it has no mean with others")
    kind = kind_of(target)
    example = torch.zeros(1, 1, PROBE_PX, PROBE_PX)
    whole = load_exported_reader(
        network, paths[0], example, contract=CONTRACTS[kind.model], scale=kind.scale, offset=kind.offset
    )
    if not whole:
        raise ValueError("it answers another question")
