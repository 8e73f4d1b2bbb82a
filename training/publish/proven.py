"""A network as one ONNX file that is proven to compute the same; what a killed job had proven is not done again."""

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.core.domain.contracts import ModelContract
from services.core.domain.release import WEIGHTS
from training.publish.digests import digest
from training.publish.export import export, parity
from training.run.exits import BadConfigurationError
from training.run.room import whole

NOTE: Final = "proven.json"


@dataclass(frozen=True, slots=True)
class Proven:
    """An ONNX file and how far its outputs are from torch's."""

    path: Path
    parity: dict[str, float]

    @classmethod
    def kept(cls, folder: Path, made_by: str, path: Path) -> Self | None:
        """The file at `path`, if `folder` says that it was proven before to be this network; else None."""
        note = folder / NOTE
        if not note.exists() or not path.exists():
            return None
        noted = json.loads(note.read_text())
        same = noted["made_by"] == made_by and noted["sha256"] == digest(path)
        return cls(path, noted["parity"]) if same else None

    @classmethod
    def of(
        cls,
        network: nn.Module,
        contract: ModelContract,
        folder: Path,
        *,
        made_by: str,
        published: Path | None,
        images: NDArray[np.float32],
    ) -> Self:
        """Export the network into `folder`, or take what is `published` of it, and compare on `images` (N, 1, S, S).

        `made_by` says what it depends on. Raises BadConfigurationError where what is published is another network,
        ValueError where what was exported is, StoreUnwritableError where there is no room.
        """
        path = published or folder / WEIGHTS
        network = deepcopy(network).to(memory_format=torch.contiguous_format)
        if published is None:
            export(network, contract, path)
        try:
            agreement = parity(network, contract, path, images)
        except ValueError as error:
            if published is None:
                raise
            raise BadConfigurationError(
                f"the weights are not those of {contract.name} that are published under this number: {error}"
            ) from error
        with whole(folder / NOTE) as file:
            noted = {"made_by": made_by, "sha256": digest(path), "parity": agreement}
            file.write(json.dumps(noted).encode())
        return cls(path, agreement)
