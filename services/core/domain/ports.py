"""What the domain asks of the outside: protocols that adapters fulfil and pipelines are written against."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.core.domain.release import Release

Tensors = Mapping[str, NDArray[np.float32]]


class Inference(Protocol):
    """Runs a version of a model on a batch."""

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """Run `model`/`version` on named inputs (B, ...) and return its named outputs (B, ...).

        Raises ModelUnavailableError, OverloadedError, DeadlineExceededError.
        """
        ...

    async def ready(self, model: str, version: int) -> bool:
        """Whether that version answers now."""
        ...


class Releases(Protocol):
    """Knows the releases that are served here."""

    def get(self, release_id: str = "") -> Release:
        """The release of that id, or the current one for an empty id. Raises UnknownReleaseError."""
        ...
