"""Bounds how many calls are worked on at once: one more is refused now instead of answered late.

A call is refused where every place is taken, or where half of them are and those who are in would keep it waiting for
longer than it has: by Little's law as many as are inside, times the usual time between two that leave. What another
service has begun already finds places of its own, since refusing it would waste what was done for it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from services.core.errors import OverloadedError

BEGUN: Final = "boneage-begun"
"""Key of the metadata by which a service says that a call is part of what it is at."""
WAITING_SHARE: Final = 0.75
"""Of the time that a caller has, what may be expected to pass before its answer: the estimate is a rough one."""
SMOOTHING: Final = 0.2


class Admission:
    """`places` calls at once, and half as many more that were begun elsewhere; items of streams wait for their turn."""

    def __init__(self, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.places = places
        self._free = asyncio.Semaphore(places)
        self._reserved = max(1, places // 2)
        self._clock = clock
        self._inside = 0
        self._interval_s = 0.0
        self._last_left_s: float | None = None

    @asynccontextmanager
    async def entered(self, *, left_s: float | None = None, begun: bool = False) -> AsyncIterator[None]:
        """A place for a call with `left_s` to be answered in, while the context lasts. Raises OverloadedError."""
        if not self._free.locked():
            if not begun:
                self._check_time(left_s)
            async with self._free:
                with self._counted():
                    yield
        elif begun and self._reserved > 0:
            with self._counted(), self._reserved_place():
                yield
        else:
            raise OverloadedError(f"all {self.places} places are taken; try again later")

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """A place for an item of a stream, whose sender is held back meanwhile."""
        async with self._free:
            with self._counted():
                yield

    def _check_time(self, left_s: float | None) -> None:
        if self._inside < self.places / 2:  # so few say nothing of how fast it goes, and nobody would come to say more
            return
        expected_s = (self._inside + 1) * self._interval_s
        if left_s is not None and expected_s > left_s * WAITING_SHARE:
            raise OverloadedError(
                f"an answer would take about {expected_s:.1f} s, too long for the {left_s:.1f} s left"
            )

    @contextmanager
    def _reserved_place(self) -> Iterator[None]:
        self._reserved -= 1
        try:
            yield
        finally:
            self._reserved += 1

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Keep count of who is inside, and of the time between two that leave one after the other."""
        if not self._inside:
            self._last_left_s = None  # nobody was there to leave: that says nothing of how fast it goes
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            now_s = self._clock()
            if self._last_left_s is not None:
                since_s = now_s - self._last_left_s
                known = self._interval_s
                self._interval_s = since_s if not known else known + SMOOTHING * (since_s - known)
            self._last_left_s = now_s
