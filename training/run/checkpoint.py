"""Keeps a run's state on disk so that it can be killed at any instant: the old one stays until the new one is whole."""

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final

import torch

from training.run.exits import BadConfigurationError, StoreUnwritableError
from training.run.room import whole

LOG = logging.getLogger(__name__)
EVERY_S: Final = "TRAINING_CHECKPOINT_EVERY_S"
USUAL_S: Final = 120.0


class Checkpoint:
    """One file with one state, a dictionary of tensors and plain values; due for renewal every `every_s` seconds.

    Without that it is due as often as the environment's EVERY_S says. Of several processes that share it, one `writes`
    and all load. Raises BadConfigurationError where EVERY_S is no time.
    """

    def __init__(
        self, path: Path, *, every_s: float | None = None, writes: bool = True, clock: Callable[[], float] = monotonic
    ) -> None:
        self.path, self.writes, self._clock = path, writes, clock
        self.every_s = _from_environment() if every_s is None else every_s
        self._saved_at = clock()

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none yet. An unreadable file is an error, never a new start."""
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds, none of them documented
            raise BadConfigurationError(f"{self.path} is no checkpoint of this job: {type(error).__name__}") from error
        return state

    def due(self) -> bool:
        """Whether the state on disk is older than it should be."""
        return self._clock() - self._saved_at >= self.every_s

    def save(self, state: dict[str, Any], *, last: bool = False) -> bool:
        """Replace the state on disk at once or not at all; tell whether that worked.

        Where the disk is full a run goes on with the old state and tries again when the next is due; only the `last`
        state must be kept, and StoreUnwritableError says that it could not be.
        """
        self._saved_at = self._clock()
        if not self.writes:
            return True
        try:
            save_whole(state, self.path)
        except StoreUnwritableError as error:
            if last:
                raise
            LOG.warning("%s; %s", error, "the older one stays" if self.path.exists() else "it is tried again later")
            return False
        return True


def _from_environment() -> float:
    told = os.environ.get(EVERY_S, "") or str(USUAL_S)
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BadConfigurationError(f"{EVERY_S} is {told!r}, not a number of seconds")
    return seconds


def save_whole(state: dict[str, Any], path: Path) -> None:
    """Put a state into a file, all of it or not at all. Raises StoreUnwritableError."""
    with whole(path) as file:
        torch.save(state, file)
