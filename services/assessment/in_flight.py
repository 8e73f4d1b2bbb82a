"""Works on the items of a stream, a few at once, and takes the next one only when there is a place for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def in_flight(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Result]], *, limit: int
) -> AsyncGenerator[Result, None]:
    """Results of `work` as they are ready, at most `limit` at once; what is left is cancelled when it ends early."""
    running: set[asyncio.Future[Result]] = set()
    coming: asyncio.Task[tuple[Item, ...]] | None = asyncio.create_task(_next(items))
    try:
        while running or coming:
            waits: set[asyncio.Future[Any]] = {*running, coming} if coming and len(running) < limit else {*running}
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if coming and coming in done:
                started = [asyncio.ensure_future(work(item)) for item in coming.result()]
                running.update(started)
                coming = asyncio.create_task(_next(items)) if started else None
            for task in running & done:
                running.discard(task)
                yield task.result()
    finally:
        for task in (*running, *((coming,) if coming else ())):
            task.cancel()


async def _next(items: AsyncIterator[Item]) -> tuple[Item, ...]:
    """The next item, or nothing at the end."""
    async for item in items:
        return (item,)
    return ()
