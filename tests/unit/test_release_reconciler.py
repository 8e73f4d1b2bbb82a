"""Bringing runtimes to what is needed: what is missing, what was away, what is wrong, what may go."""

import asyncio

import pytest

from services.core.domain.contracts import REGRESSOR, SEGMENTER
from services.core.errors import ModelContractError, ModelUnavailableError
from services.release.reconciler import Reconciler
from tests.models import tiny_release
from tests.releases import MemoryHost
from tests.waiting import until

ONE, TWO = tiny_release("r1", version=1), tiny_release("r2", version=2)


def versions(*releases):
    """All versions of some releases."""
    return frozenset(v for release in releases for v in release.models.items())


class Clock:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self):
        """What it shows."""
        return self.now_s


def reconciler(host, *releases, delay_s=30.0, clock=None):
    """For some releases, which the test may change in the list that it keeps."""
    needed = list(releases)
    made = Reconciler([host], lambda: versions(*needed), unload_delay_s=delay_s, clock=clock or Clock())
    return made, needed


async def test_what_is_missing_is_loaded_everywhere():
    """After one round every runtime answers."""
    host = MemoryHost("a", "b")
    made, _ = reconciler(host, ONE)
    assert not made.ready(ONE)
    await made.round()
    assert host.loaded == {"a": set(versions(ONE)), "b": set(versions(ONE))}
    assert made.ready(ONE)


async def test_nothing_is_asked_of_a_runtime_that_has_all():
    """Rounds without a change touch nothing."""
    host = MemoryHost("a")
    made, _ = reconciler(host, ONE)
    await made.round()
    host.asked.clear()
    await made.round()
    assert host.asked == []


async def test_a_runtime_that_comes_back_empty_is_filled():
    """Nobody has to restart anything of ours."""
    host = MemoryHost("a", "b")
    made, _ = reconciler(host, ONE)
    await made.round()
    host.away.add("a")
    host.restart("a")
    await made.round()
    assert made.ready(ONE), "the one that is left answers for all"
    host.away.clear()
    await made.round()
    assert host.loaded["a"] == set(versions(ONE))


async def test_what_is_needed_no_more_stays_until_its_calls_have_ended():
    """Unloading waits for the longest deadline; then it goes."""
    host, clock = MemoryHost("a"), Clock()
    made, needed = reconciler(host, ONE, delay_s=30.0, clock=clock)
    await made.round()
    needed[:] = [TWO]
    clock.now_s = 29.0
    await made.round()
    assert host.loaded["a"] == set(versions(ONE, TWO))
    clock.now_s = 31.0
    await made.round()
    assert host.loaded["a"] == set(versions(TWO))


async def test_a_wrong_model_is_a_fault_and_the_served_one_stays():
    """Whoever waits for it is told why, at once."""
    host = MemoryHost("a")
    made, needed = reconciler(host, ONE)
    await made.round()
    host.wrong[REGRESSOR, 2] = "protobuf parsing failed"
    needed.append(TWO)
    await made.round()
    assert set(versions(ONE)) <= host.loaded["a"]
    with pytest.raises(ModelContractError, match="boneage_regressor version 2: protobuf parsing failed"):
        await made.until_ready(TWO, timeout_s=30)
    needed.remove(TWO)
    await made.round()
    assert made.fault(TWO) == ""


async def test_one_wrong_version_keeps_no_other_away():
    """A runtime that comes back gets what it can, and only what is wrong is blamed."""
    host = MemoryHost("a")
    host.wrong[REGRESSOR, 1] = "protobuf parsing failed"
    made, _ = reconciler(host, ONE, TWO)
    await made.round()
    assert made.ready(TWO)
    assert made.fault(TWO) == ""
    assert "protobuf parsing failed" in made.fault(ONE)


async def test_what_another_has_loaded_stays_for_a_while_too():
    """After a restart of ours somebody may still route to what we know nothing of."""
    host, clock = MemoryHost("a"), Clock()
    host.loaded["a"] = set(versions(TWO))
    made, _ = reconciler(host, ONE, delay_s=30.0, clock=clock)
    await made.round()
    assert host.loaded["a"] == set(versions(ONE, TWO))
    clock.now_s = 31.0
    await made.round()
    assert host.loaded["a"] == set(versions(ONE))


async def test_a_wrong_model_is_tried_again_ever_more_rarely():
    """Every try costs the runtime a process; a disk that was full may have room again."""
    host, clock = MemoryHost("a"), Clock()
    host.wrong[REGRESSOR, 1] = "no space left on device"
    made, _ = reconciler(host, ONE, clock=clock)
    tries = []
    for second in range(12):
        clock.now_s = float(second)
        await made.round()
        tries.append(sum(model == REGRESSOR for _, model, _ in host.asked))
    assert tries == [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4]
    host.wrong.clear()
    clock.now_s = 60.0
    await made.round()
    assert made.ready(ONE)


async def test_who_waits_in_vain_is_told_what_is_missing_where():
    """The message names the runtime and the version."""
    host = MemoryHost("a")
    made, _ = reconciler(host, ONE)
    await made.round()
    with pytest.raises(ModelUnavailableError, match=rf"a lacks .*{SEGMENTER} 2"):
        await made.until_ready(TWO, timeout_s=0.1)


async def test_a_release_is_ready_only_where_it_can_be_named():
    """A service that has not got the manifest yet would refuse the calls."""
    host = MemoryHost("a", "b")
    host.unknown["b"] = {"r1"}
    made, _ = reconciler(host, ONE)
    await made.round()
    assert not made.ready(ONE)
    with pytest.raises(ModelUnavailableError, match="b lacks its manifest"):
        await made.until_ready(ONE, timeout_s=0.1)
    host.unknown.clear()
    assert made.ready(ONE)


async def test_no_runtime_at_all_is_not_ready():
    """Nobody answers where nobody is."""
    made, _ = reconciler(MemoryHost(), ONE)
    await made.round()
    assert not made.ready(ONE)
    with pytest.raises(ModelUnavailableError, match="no runtime can be reached"):
        await made.until_ready(ONE, timeout_s=0.1)


async def test_a_slow_load_holds_no_other_runtime_up():
    """An engine may take minutes to build; a second runtime that returns meanwhile is filled at once."""
    host = MemoryHost("slow", "quick")
    host.held["slow"] = asyncio.Event()
    made, _ = reconciler(host, ONE)
    following = asyncio.create_task(made.follow(interval_s=0.01))
    try:
        await until(lambda: host.loaded["quick"] == set(versions(ONE)))
        host.restart("quick")
        await until(lambda: host.loaded["quick"] == set(versions(ONE)))
        assert host.loaded["slow"] == set()
        host.held["slow"].set()
        await until(lambda: made.ready(ONE))
    finally:
        following.cancel()
