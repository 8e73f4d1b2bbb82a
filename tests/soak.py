"""What a group of services must stand while it changes: the tests do a little of it, `make soak` all."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from boneage.v1 import common_pb2, regression_pb2, regression_pb2_grpc
from tests.group import MODEL_SERVICES, Group
from tests.load import CLIENTS, DEADLINE_S, PACKAGE, Case, Tally, loading
from tests.triton import Triton
from tests.waiting import until

MIN_READY_S: Final = 3.0
"""From an instance's readiness to the stop of the other, as a cluster is told (minReadySeconds): channels try again
after 2 s at the latest, so that whoever calls has found it by then."""


@dataclass(slots=True)
class Changes:
    """What was done while a load ran, and how long rollbacks took to hold."""

    promoted: int = 0
    canaried: int = 0
    rolled_back: list[tuple[float, str]] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)

    def slowest_rollback_s(self, tally: Tally) -> float:
        """From the call to the beginning of the last call that the release which was taken back still answered."""
        slowest = 0.0
        moments = [moment for moment, _ in self.rolled_back]
        for index, (moment, release) in enumerate(self.rolled_back):
            after = moments[index + 1] if index + 1 < len(moments) else float("inf")
            late = [a.began_s - moment for a in tally.answers if a.release == release and moment < a.began_s < after]
            slowest = max(slowest, *late, 0.0)
        return slowest


async def change_releases(group: Group, changes: Changes, tally: Tally, *, cycles: int) -> None:
    """Publish, let it answer a share, promote, and every other time go back once it has answered: `cycles` times."""
    async with group.releases() as releases:
        for cycle in range(cycles):
            made = group.publisher.publish()
            await releases.canary(made.id, 300)
            changes.canaried += 1
            await releases.promote(made.id)
            changes.promoted += 1
            if cycle % 2:
                await until(partial(tally.ends_with, made.id))
                changes.rolled_back.append((time.monotonic(), made.id))
                await releases.rollback("to try it")
            await releases.collect_garbage(keep=2, dry_run=False)


async def restart_one_of_each(group: Group, changes: Changes) -> None:
    """Stop and start one of the Tritons, then one instance of every service; the other goes on meanwhile."""
    server = group.tritons[0]
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    changes.restarted.append("triton")
    await until(lambda: holds_all(group, server), timeout_s=60)
    for name in (*MODEL_SERVICES, "assessment", "release"):
        member = group.services[name][0]
        await member.stop()
        member.start()
        await group.until_serving(name)
        changes.restarted.append(name)


async def holds_all(group: Group, server: Triton) -> bool:
    """Whether a Triton answers for every version of the current release."""
    async with group.releases() as releases:
        reply = await releases.get()
    return await asyncio.to_thread(server.has_ready, dict(reply.summary.models))


async def rolling(group: Group, cases: Sequence[Case], *, calls: int, cycles: int) -> tuple[Tally, Changes]:
    """Test 1: calls without a break while releases change, and while one of everything is stopped and started."""
    changes, done = Changes(), asyncio.Event()

    async def work(tally: Tally) -> None:
        try:
            await change_releases(group, changes, tally, cycles=cycles)
            await restart_one_of_each(group, changes)
            await change_releases(group, changes, tally, cycles=1)
        finally:
            done.set()

    async with loading(group, cases) as load, asyncio.TaskGroup() as tasks:
        tasks.create_task(work(load.tally))
        tally = await load.run(calls, until_done=done)
    return tally, changes


@dataclass(slots=True)
class Recovery:
    """After all Tritons were killed: seconds until nobody claimed to serve, and until all did again."""

    noticed_s: float
    recovered_s: float
    tally: Tally


async def killed(group: Group, cases: Sequence[Case]) -> Recovery:
    """Test 2: all Tritons are killed in mid-load and started again; nothing of ours is."""
    done = asyncio.Event()
    async with loading(group, cases) as load, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(load.run(0, until_done=done))
        await until(lambda: len(load.tally.answers) > CLIENTS)
        began_s = time.monotonic()
        for server in group.tritons:
            server.kill()
        await until(lambda: _none_serves(group), timeout_s=30)
        noticed_s = time.monotonic() - began_s
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in group.tritons))
        began_s = time.monotonic()
        await group.until_serving(*MODEL_SERVICES, "assessment", timeout_s=60)
        recovered_s = time.monotonic() - began_s
        count = len(load.tally.answers)
        await until(lambda: len(load.tally.answers) > count + CLIENTS)
        done.set()
    return Recovery(noticed_s, recovered_s, running.result())


async def _none_serves(group: Group) -> bool:
    members = [member for name in (*MODEL_SERVICES, "assessment") for member in group.services[name]]
    return not any([await member.is_serving() for member in members])


async def republished(group: Group, *, cycles: int, warm_up: int) -> tuple[float, float]:
    """Test 6: publish, promote and roll back again and again; the memory after `warm_up` cycles and after all.

    Both are of a group at rest: only what the routing names is loaded.
    """
    settled = []
    async with group.releases() as releases:
        for count in (warm_up, cycles - warm_up):
            for _ in range(count):
                made = group.publisher.publish()
                await releases.promote(made.id)
                await releases.rollback("to try it")
                await releases.collect_garbage(keep=1, dry_run=False)
            await until(partial(_at_rest, group), timeout_s=120)
            settled.append(await asyncio.to_thread(group.resident_bytes))
    return settled[0], settled[1]


async def _at_rest(group: Group) -> bool:
    """Whether every Triton holds the current and the previous version of the reader, and nothing comes or goes."""
    reader = group.publisher.release.reader
    found = [await asyncio.to_thread(server.states, reader) for server in group.tritons]
    counts = {len(server.processes()) for server in group.tritons}
    return all(states == ["READY", "READY"] for states in found) and len(counts) == 1


async def without_releases(group: Group, cases: Sequence[Case], *, calls: int, instances: int) -> Tally:
    """Test 7: the release services are down for the whole of it; meanwhile `instances` of every service start anew."""
    for member in group.services["release"]:
        await member.stop(signal.SIGKILL)
    try:
        done = asyncio.Event()

        async def restart() -> None:
            for name in (*MODEL_SERVICES, "assessment"):
                for number, member in enumerate(group.services[name][:instances]):
                    await asyncio.sleep(MIN_READY_S if number else 0)
                    await member.stop()
                    member.start()
                    await group.until_serving(name)
            done.set()

        async with loading(group, cases) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(restart())
            return await load.run(calls, until_done=done)
    finally:
        for member in group.services["release"]:
            member.start()
        await group.until_serving("release")


async def spread(group: Group, cases: Sequence[Case], *, calls: int) -> list[int]:
    """Test 5: how many inferences each Triton did of a load."""
    before = [server.count("request_success", "boneage_regressor") for server in group.tritons]
    async with loading(group, cases) as load:
        await load.run(calls)
        assert not load.tally.failures, load.tally.failures[:3]
    after = [server.count("request_success", "boneage_regressor") for server in group.tritons]
    return [b - a for a, b in zip(before, after, strict=True)]


Measure = Callable[[], Awaitable[None]]


async def paired_ms(ours: Measure, direct: Measure, *, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of both, taking turns, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for kept, measure in zip(times, (ours, direct), strict=True):
            began_s = time.perf_counter()
            await measure()
            kept.append((time.perf_counter() - began_s) * 1e3)
    return times


async def overhead_ms(group: Group, case: Case, *, rounds: int) -> tuple[list[float], list[float]]:
    """Test 4: one client asks the regression service, and Triton itself for the same hand, in turn."""
    pixels = np.frombuffer(case.hand.raw.data, "<f4").reshape(1, 1, case.hand.raw.size.height, case.hand.raw.size.width)
    model = group.publisher.release.reader
    async with (
        group.channel("regression", f"{PACKAGE}.RegressionService") as channel,
        InferenceServerClient(group.tritons[0].address) as triton,
        group.releases() as releases,
    ):
        stub = regression_pb2_grpc.RegressionServiceStub(channel)
        version = str((await releases.get()).summary.models[model])
        request = regression_pb2.EstimateBoneAgeRequest(hand=case.hand, sex=common_pb2.SEX_FEMALE)

        async def ours() -> None:
            await stub.EstimateBoneAge(request, timeout=DEADLINE_S)

        async def direct() -> None:
            tensor = InferInput("hand", pixels.shape, "FP32")
            tensor.set_data_from_numpy(pixels)
            await triton.infer(model, [tensor], model_version=version)

        await paired_ms(ours, direct, rounds=5)
        return await paired_ms(ours, direct, rounds=rounds)


async def until_left(group: Group, server: Triton) -> None:
    """Wait until the load goes round a Triton that is gone: all that is asked is answered."""
    assert not await asyncio.to_thread(server.is_live)
    await group.until_serving(*MODEL_SERVICES, "assessment")


async def until_shared(group: Group, cases: Sequence[Case], server: Triton, *, timeout_s: float) -> float:
    """Seconds until a Triton that came does as much as the others; raises TimeoutError where it does not."""
    began_s = time.monotonic()
    index = list(group.tritons).index(server)

    async def shares() -> bool:
        counts = await spread(group, cases, calls=80)
        return counts[index] >= 0.8 * max(counts)

    await until(shares, timeout_s=timeout_s)
    return time.monotonic() - began_s
