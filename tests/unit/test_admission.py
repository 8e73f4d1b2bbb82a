"""Who is let in and who is refused at once: places, the time that is left, and what was begun elsewhere."""

from contextlib import AsyncExitStack

import pytest

from services.core.errors import OverloadedError
from services.core.runtime.admission import Admission


class Clock:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self):
        """What it shows."""
        return self.now_s


@pytest.fixture
def clock():
    """At nought."""
    return Clock()


async def inside(admission, stack, count, **told):
    """So many calls are let in, and stay."""
    for _ in range(count):
        await stack.enter_async_context(admission.entered(**told))


async def learn(admission, clock, *, interval_s, calls=30):
    """Calls that leave one after the other, so far apart, two being inside all the while."""
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 1)
        for _ in range(calls):
            async with admission.entered():
                clock.now_s += interval_s
        clock.now_s += interval_s


async def test_one_more_than_there_are_places_is_refused(clock):
    """At once, and its place is free again when another leaves."""
    admission = Admission(2, clock=clock)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 2)
        with pytest.raises(OverloadedError, match="all 2 places"):
            await inside(admission, stack, 1)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 2)


async def test_what_was_begun_elsewhere_finds_a_place(clock):
    """Half as many more, and no more than that."""
    admission = Admission(4, clock=clock)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 4)
        await inside(admission, stack, 2, begun=True)
        with pytest.raises(OverloadedError):
            await inside(admission, stack, 1, begun=True)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 4)
        await inside(admission, stack, 2, begun=True)


async def test_who_would_wait_too_long_is_told_so_at_once(clock):
    """Four inside and a second between two that leave make five seconds: too much of six, not of eight."""
    admission = Admission(8, clock=clock)
    await learn(admission, clock, interval_s=1.0)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 4, left_s=60.0)
        with pytest.raises(OverloadedError, match=r"an answer would take about 5\.0 s, too long for the 6\.0 s left"):
            await inside(admission, stack, 1, left_s=6.0)
        await inside(admission, stack, 1, left_s=8.0)
        await inside(admission, stack, 1, left_s=6.0, begun=True)


async def test_nobody_is_refused_by_an_idle_service(clock):
    """However slow it was, and however little time there is: who comes alone is let in."""
    admission = Admission(16, clock=clock)
    await learn(admission, clock, interval_s=30.0)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 1, left_s=1.0)


async def test_a_few_are_let_in_however_slow_it_was(clock):
    """A service that hung for a while must be asked again, or nobody would learn that it is well."""
    admission = Admission(16, clock=clock)
    await learn(admission, clock, interval_s=30.0)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 8, left_s=1.0)
        with pytest.raises(OverloadedError):
            await inside(admission, stack, 1, left_s=1.0)


async def test_a_pause_says_nothing_of_how_fast_it_goes(clock):
    """An hour without a call does not make the next ones seem slow."""
    admission = Admission(16, clock=clock)
    await learn(admission, clock, interval_s=0.1)
    clock.now_s += 3600
    await learn(admission, clock, interval_s=0.1, calls=2)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 10, left_s=5.0)


async def test_a_service_that_got_faster_lets_more_in(clock):
    """What is usual follows what happens."""
    admission = Admission(16, clock=clock)
    await learn(admission, clock, interval_s=3.0)
    await learn(admission, clock, interval_s=0.1)
    async with AsyncExitStack() as stack:
        await inside(admission, stack, 10, left_s=5.0)
