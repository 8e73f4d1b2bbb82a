"""Which of several release services is the active one: whoever holds the lock, or the Lease; alone, it always is."""

import asyncio
import fcntl
import os
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from services.core.errors import ConfigurationError, ModelUnavailableError
from services.core.runtime.settings import ReleaseSettings

POLL_S: Final = 0.5
PLACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
LEASE: Final = "BONEAGE_LEASE"


class Leadership(Protocol):
    """How the active one is found."""

    def check(self) -> None:
        """Raises ModelUnavailableError where this process is not the active one: then it must not write."""

    def leading(self) -> AbstractAsyncContextManager[None]:
        """Wait to be the active one, and be it while the context lasts."""


def leadership_of(settings: ReleaseSettings) -> Leadership:
    """What the settings say. Raises ConfigurationError."""
    if settings.lease and settings.lock_file:
        raise ConfigurationError("set either the lease or the lock file", field=LEASE)
    if not settings.lease:
        return LockLeadership(settings.lock_file)
    if not PLACE.fullmatch(settings.lease):
        raise ConfigurationError(f"{settings.lease!r} is not NAMESPACE/NAME", field=LEASE)
    try:
        from services.release.lease import lease_leadership  # noqa: PLC0415 -- only where a Lease is asked for
    except ImportError as error:
        raise ConfigurationError("needs the package kubernetes: the extra `cluster`", field=LEASE) from error
    return lease_leadership(settings.lease)


class LockLeadership:
    """By a lock on a file, for processes of one machine; without a file this process is alone."""

    def __init__(self, lock_file: Path | None) -> None:
        self._lock_file = lock_file
        self._active = False

    def check(self) -> None:
        """Raises ModelUnavailableError."""
        if not self._active:
            raise ModelUnavailableError("this release service is not the active one")

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        """The system gives the lock up when the process ends, however it does.

        Raises ConfigurationError where the file cannot be opened.
        """
        descriptor = None if self._lock_file is None else _opened(self._lock_file)
        try:
            while descriptor is not None and not _taken(descriptor):  # noqa: ASYNC110 -- see below
                await asyncio.sleep(POLL_S)  # the system tells nobody when a lock is given up
            self._active = True
            yield
        finally:
            self._active = False
            if descriptor is not None:
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
