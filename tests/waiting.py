"""Waits for a condition of something that runs by itself: as long as it takes, and not a moment longer."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

LOOK_S = 0.01


async def until(condition: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = 30.0) -> None:
    """Return once `condition` is true. Raises TimeoutError where it does not come to be."""

    async def holds() -> bool:
        found = condition()
        return await found if inspect.isawaitable(found) else bool(found)

    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110 -- what is waited for tells nobody
            await asyncio.sleep(LOOK_S)
