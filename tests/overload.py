"""More calls than can be done, and callers who go: what a group of services must stand of both."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from boneage.v1 import assessment_pb2, assessment_pb2_grpc
from services.core.adapters.triton_config import INSTANCES
from tests.group import Group
from tests.load import PACKAGE, Case, Load, loading
from tests.waiting import until

SAMPLES: Final = 20
QUIET_S: Final = 4.0
"""Without a change for so long nothing runs any more: longer than the slowest inference."""


@dataclass(slots=True)
class Overload:
    """At several times what can be done: answers a second before and during, how fast refusals came, and memory.

    `growth` is that of the memory from the second fifth of its samples to the last: the first one fills what is kept.
    A machine that is short of processors takes fewer than `SAMPLES` of them, but never fewer than two.
    """

    peak_per_s: float
    goodput_per_s: float
    answered: int
    refused: int
    failures: list[str]
    refusal_p95_s: float
    growth: float


async def overloaded(group: Group, cases: Sequence[Case], *, seconds: float, times: float = 3.0) -> Overload:
    """Test 3: calls come at `times` the rate that can be done, whether they are answered or not."""
    async with loading(group, cases) as load:
        peak = await _rate(load, seconds / 2)
    samples: list[float] = []
    async with loading(group, cases) as load:
        began_s = time.monotonic()
        tasks: list[asyncio.Task[None]] = []
        while (passed_s := time.monotonic() - began_s) < seconds:
            due = range(len(tasks) + 1, int(passed_s * peak * times) + 1)
            tasks += [asyncio.create_task(load.call(number)) for number in due]
            if passed_s * SAMPLES >= seconds * len(samples):
                samples.append(await asyncio.to_thread(group.resident_bytes))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        took_s, tally = time.monotonic() - began_s, load.tally
        samples.append(await asyncio.to_thread(group.resident_bytes))
    begun, fifth = len(samples) // 5, max(1, len(samples) // 5)
    return Overload(
        peak_per_s=peak,
        goodput_per_s=len(tally.answers) / took_s,
        answered=len(tally.answers),
        refused=len(tally.refused),
        failures=tally.failures,
        refusal_p95_s=float(np.percentile(tally.refused, 95)) if tally.refused else 0.0,
        growth=float(np.mean(samples[-fifth:]) / np.mean(samples[begun : begun + fifth]) - 1),
    )


async def _rate(load: Load, seconds: float) -> float:
    """Answers a second of a load that waits for each."""
    done, began_s = asyncio.Event(), time.monotonic()
    running = asyncio.create_task(load.run(0, until_done=done))
    await asyncio.sleep(seconds)
    done.set()
    tally = await running
    return len(tally.answers) / (time.monotonic() - began_s)


@dataclass(slots=True)
class Cancelled:
    """Executions (batches) of each model that ended later than 100 ms after all callers had gone; how many can run."""

    calls: int
    late: dict[str, int]
    at_once: int


async def cancelled(group: Group, cases: Sequence[Case], *, calls: int = 12) -> Cancelled:
    """Test 3, its end: callers go in the middle of their assessments; what is queued for them must not run."""
    stub_channel = group.channel("assessment", f"{PACKAGE}.AssessmentService")
    stub = assessment_pb2_grpc.AssessmentServiceStub(stub_channel)
    before = await asyncio.to_thread(_executed, group)
    asked = [
        stub.Assess(assessment_pb2.AssessRequest(radiograph=cases[n % len(cases)].radiograph), timeout=60)
        for n in range(calls)
    ]

    async def under_way() -> bool:
        return await asyncio.to_thread(_executed, group) != before

    await until(under_way, timeout_s=60)
    for call in asked:
        call.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(0.1)  # what the promise allows
    then = await asyncio.to_thread(_executed, group)
    last, since_s = then, time.monotonic()
    while time.monotonic() - since_s < QUIET_S:
        now = await asyncio.to_thread(_executed, group)
        if now != last:
            last, since_s = now, time.monotonic()
        await asyncio.sleep(0.1)
    await stub_channel.close(None)
    late = {name: last[name] - then[name] for name in then}
    return Cancelled(calls, late, at_once=INSTANCES * len(group.tritons))


def _executed(group: Group) -> dict[str, int]:
    """Executions that have ended, by model."""
    return {
        name: sum(server.count("exec_count", name) for server in group.tritons)
        for name in group.publisher.release.models
    }
