"""Which of several release services is the active one: whoever holds the lock, until it ends."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from services.core.errors import ConfigurationError

POLL_S: Final = 0.5


@asynccontextmanager
async def leading(lock_file: Path | None) -> AsyncIterator[None]:
    """Wait to be the only one who holds the lock, and hold it while the context lasts; without a file there is no lock.

    The system gives the lock up when the process ends, however it does. Raises ConfigurationError where the file cannot
    be opened.
    """
    if lock_file is None:
        yield
        return
    descriptor = _opened(lock_file)
    try:
        while not _taken(descriptor):  # noqa: ASYNC110 -- there is no event for it
            await asyncio.sleep(POLL_S)  # the system tells nobody when a lock is given up
        yield
    finally:
        os.close(descriptor)


def _opened(lock_file: Path) -> int:
    try:
        return os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot be opened: {error.strerror}", field="BONEAGE_LOCK_FILE") from error


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
