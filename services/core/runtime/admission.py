"""Bounds how many calls are worked on at once: one more is refused now instead of answered late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.core.errors import OverloadedError


class Admission:
    """`places` calls at once; a call enters or is refused, an item of a stream waits for its turn."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = asyncio.Semaphore(places)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """A place for a call while the context lasts. Raises OverloadedError where none is free."""
        if self._free.locked():
            raise OverloadedError(f"all {self.places} places are taken; try again later")
        async with self._free:
            yield

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """A place for an item of a stream, whose sender is held back meanwhile."""
        async with self._free:
            yield
