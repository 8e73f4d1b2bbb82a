"""Files on a disk that may be full: what is added to one waits for room; what is made is whole or not there."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from training.run.exits import StoreUnwritableError

LOG = logging.getLogger(__name__)


class Growing:
    """A file that is added to. What there is no room for waits in memory, and follows once there is room again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._waiting: list[bytes] = []

    def add(self, entry: bytes) -> None:
        """Write an entry behind those that wait, or let it wait with them."""
        self._waiting.append(entry)
        first = len(self._waiting) == 1
        try:
            self._write()
        except OSError as error:
            if first:
                LOG.warning("%s cannot be written, what is added waits in memory: %s", self.path, error)

    def _write(self) -> None:
        """As many whole entries and as much of the next as there is room for."""
        while self._waiting:
            written = self._file.write(self._waiting[0])
            self._waiting[0] = self._waiting[0][written:]
            if not self._waiting[0]:
                del self._waiting[0]

    def truncate(self, size: int) -> None:
        """Forget all that lies behind the first `size` bytes."""
        self._file.truncate(size)

    def close(self) -> None:
        """Try once more, and say how many entries are lost."""
        try:
            self._write()
            self._file.close()
        except OSError as error:
            LOG.warning("%s: %d entries are lost: %s", self.path, len(self._waiting), error)


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, or none at all. Raises StoreUnwritableError."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns a short write into a RuntimeError
        partial.unlink(missing_ok=True)
        raise StoreUnwritableError(f"{path} cannot be written: {error}") from error


def take_room(path: Path, size: int) -> None:
    """Make a file of `size` zeros with all of its room taken, or none at all. Raises StoreUnwritableError.

    Where a file has holes, writing to a map of it kills the process once the disk is full.
    """
    with whole(path) as file:
        if size:
            os.posix_fallocate(file.fileno(), 0, size)
