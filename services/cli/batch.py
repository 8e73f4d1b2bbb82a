"""Reads many radiographs with several in flight, and gives their readings in the order of the files."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


async def in_order(
    jobs: Iterable[Job], work: Callable[[Job], Awaitable[Result]], *, in_flight: int
) -> AsyncGenerator[Result, None]:
    """Results of `work` in the order of `jobs`, each as soon as it and those before it are ready.

    At most `in_flight` are worked on or waiting to be taken; those left are cancelled when the iteration ends early.
    """
    running: deque[asyncio.Task[Result]] = deque()
    try:
        for job in jobs:
            if len(running) == in_flight:
                yield await running.popleft()
            running.append(asyncio.ensure_future(work(job)))
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
