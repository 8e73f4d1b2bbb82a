"""Many files at a time, in order."""

import asyncio

from services.cli.batch import in_order


async def test_results_keep_the_order_of_the_jobs() -> None:
    """A job that ends early waits for those before it."""
    first_may_end = asyncio.Event()

    async def work(job: int) -> int:
        if job == 0:
            await first_may_end.wait()
        else:
            first_may_end.set()
        return job

    assert [result async for result in in_order(range(5), work, in_flight=2)] == [0, 1, 2, 3, 4]


async def test_no_more_than_the_limit_are_in_flight() -> None:
    """Started and not yet taken never exceed the limit."""
    started = taken = most = 0

    async def work(job: int) -> int:
        nonlocal started, most
        started += 1
        most = max(most, started - taken)
        return job

    async for _ in in_order(range(20), work, in_flight=3):
        taken += 1
    assert (taken, most) == (20, 3)


async def test_what_is_left_is_cancelled_when_the_caller_stops() -> None:
    """Ending the iteration ends the work."""
    cancelled = asyncio.Event()

    async def work(job: int) -> int:
        if job == 0:
            return job
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return job

    results = in_order(range(3), work, in_flight=2)
    assert await anext(results) == 0
    await asyncio.sleep(0)
    await results.aclose()
    await asyncio.wait_for(cancelled.wait(), timeout=5)
