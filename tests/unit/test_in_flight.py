"""Items of a stream, a few at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.assessment.in_flight import in_flight


class Source:
    """Numbers, as fast as they are taken."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        """The numbers in order."""
        for number in range(self.count):
            self.taken += 1
            yield number


async def test_every_item_is_answered_once() -> None:
    """Nothing is lost and nothing is done twice."""

    async def double(number: int) -> int:
        return 2 * number

    answers = [answer async for answer in in_flight(aiter(Source(50)), double, limit=4)]
    assert sorted(answers) == [2 * number for number in range(50)]


async def test_answer_comes_as_soon_as_it_is_ready() -> None:
    """A slow item does not hold back those after it."""
    release = asyncio.Event()

    async def work(number: int) -> int:
        if number == 0:
            await release.wait()
        return number

    answers = []
    async for answer in in_flight(aiter(Source(5)), work, limit=2):
        answers.append(answer)
        if len(answers) == 4:
            release.set()
    assert answers[-1] == 0


async def test_sender_is_held_back() -> None:
    """No more is taken than is worked on, and one that waits."""
    source, release, full, running = Source(100), asyncio.Event(), asyncio.Event(), 0

    async def work(number: int) -> int:
        nonlocal running
        running += 1
        if running == 3:
            full.set()
        await release.wait()
        return number

    async with aclosing(in_flight(aiter(source), work, limit=3)) as answers:
        first = asyncio.ensure_future(anext(answers))
        await full.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert running == 3
        assert source.taken <= 4
        release.set()
        await first


async def test_what_is_left_is_cancelled_when_it_ends_early() -> None:
    """A caller that goes away leaves no work behind."""
    cancelled = asyncio.Event()

    async def work(number: int) -> int:
        if number == 0:
            return number
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return number

    async with aclosing(in_flight(aiter(Source(3)), work, limit=2)) as answers:
        assert await anext(answers) == 0
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_error_of_an_item_is_the_callers() -> None:
    """What work raises is raised."""

    async def work(number: int) -> int:
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        async for _ in in_flight(aiter(Source(1)), work, limit=1):
            pass
