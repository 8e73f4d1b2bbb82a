"""What a group of services must stand, whatever the number of calls: the tests do a little of it, `make soak` all."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from boneage.v1 import (
    assessment_pb2,
    assessment_pb2_grpc,
    common_pb2,
    enhancement_pb2,
    enhancement_pb2_grpc,
    regression_pb2,
    regression_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from services.client import calling
from services.core.adapters.triton_config import INSTANCES
from services.core.errors import BoneageError, OverloadedError
from tests.group import MODEL_SERVICES, Group, resident_bytes
from tests.triton import Triton
from tests.waiting import until

DEADLINE_S: Final = 15.0
CLIENTS: Final = 8
WHOLE_EVERY: Final = 10
"""One call in so many is a whole assessment, the others read a prepared hand."""
PACKAGE: Final = "boneage.v1"
SAMPLES: Final = 20
MIN_READY_S: Final = 3.0
"""From an instance's readiness to the stop of the other, as a cluster is told (minReadySeconds): channels try again
after 2 s at the latest, so that whoever calls has found it by then."""
QUIET_S: Final = 4.0
"""Without a change for so long nothing runs any more: longer than the slowest inference."""


@dataclass(frozen=True, slots=True)
class Case:
    """One radiograph, and the hand that was prepared from it."""

    radiograph: common_pb2.Radiograph
    hand: common_pb2.Radiograph


@dataclass(slots=True)
class Answer:
    """One call that was answered: when it began and how long it took, and by what."""

    began_s: float
    seconds: float
    release: str
    versions: dict[str, int]


@dataclass(slots=True)
class Tally:
    """What a load came to."""

    answers: list[Answer] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest_failure_s: float = 0.0

    @property
    def releases(self) -> Counter[str]:
        """Answers by release."""
        return Counter(answer.release for answer in self.answers)

    def ends_with(self, release: str) -> bool:
        """Whether the last answer is a release's."""
        return bool(self.answers) and self.answers[-1].release == release

    def mixed(self, group: Group) -> list[str]:
        """Answers of which a model's version is not the one that their release pins."""
        pinned = {release.id: release.models for release in group.publisher.made}
        return [
            f"{answer.release}: {answer.versions}"
            for answer in self.answers
            if any(pinned[answer.release][name] != version for name, version in answer.versions.items())
        ]


class Load:
    """Calls to a group by several clients at once."""

    def __init__(self, group: Group, cases: Sequence[Case]) -> None:
        self._cases = cases
        self.tally = Tally()
        self._channels = [group.channel(name, f"{PACKAGE}.{service}") for name, service in
                          (("assessment", "AssessmentService"), ("regression", "RegressionService"))]  # fmt: skip
        self._assess = assessment_pb2_grpc.AssessmentServiceStub(self._channels[0])
        self._regress = regression_pb2_grpc.RegressionServiceStub(self._channels[1])
        self.begun = 0

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close(None)

    async def run(self, calls: int, *, clients: int = CLIENTS, until_done: asyncio.Event | None = None) -> Tally:
        """Make `calls` calls, or more until `until_done` is set."""

        async def client() -> None:
            while self.begun < calls or (until_done is not None and not until_done.is_set()):
                self.begun += 1
                await self.call(self.begun)

        await asyncio.gather(*(client() for _ in range(clients)))
        return self.tally

    async def call(self, number: int, *, deadline_s: float = DEADLINE_S) -> None:
        """One call, tallied."""
        case, began_s = self._cases[number % len(self._cases)], time.monotonic()
        try:
            with calling():
                release, models = await self._ask(case, whole=number % WHOLE_EVERY == 0, deadline_s=deadline_s)
        except OverloadedError:
            self.tally.refused.append(time.monotonic() - began_s)
        except BoneageError as error:
            self.tally.failures.append(f"{type(error).__name__}: {error.reason}")
            self.tally.slowest_failure_s = max(self.tally.slowest_failure_s, time.monotonic() - began_s)
        else:
            versions = {model.name: model.version for model in models}
            self.tally.answers.append(Answer(began_s, time.monotonic() - began_s, release, versions))

    async def _ask(self, case: Case, *, whole: bool, deadline_s: float) -> tuple[str, Sequence[Any]]:
        if whole:
            request = assessment_pb2.AssessRequest(radiograph=case.radiograph, report_ungated=True)
            answer = await self._assess.Assess(request, timeout=deadline_s)
            return answer.release, answer.models
        asked = regression_pb2.EstimateBoneAgeRequest(hand=case.hand, sex=common_pb2.SEX_FEMALE)
        read = await self._regress.EstimateBoneAge(asked, timeout=deadline_s)
        return read.release, [read.model]


@asynccontextmanager
async def loading(group: Group, cases: Sequence[Case]) -> AsyncIterator[Load]:
    """A load whose channels are closed at the end."""
    load = Load(group, cases)
    try:
        yield load
    finally:
        await load.close()


async def prepared(group: Group, radiographs: Sequence[common_pb2.Radiograph]) -> list[Case]:
    """Each radiograph with the hand that the group's own services prepare from it."""
    cases = []
    async with (
        group.channel("segmentation", f"{PACKAGE}.SegmentationService") as one,
        group.channel("enhancement", f"{PACKAGE}.EnhancementService") as two,
    ):
        segmenting = segmentation_pb2_grpc.SegmentationServiceStub(one)
        enhancing = enhancement_pb2_grpc.EnhancementServiceStub(two)
        for radiograph in radiographs:
            asked = segmentation_pb2.SegmentRequest(radiograph=radiograph)
            found = await segmenting.Segment(asked, timeout=60)
            request = enhancement_pb2.EnhanceRequest(radiograph=radiograph, mask=found.mask)
            made = await enhancing.Enhance(request, timeout=60)
            cases.append(Case(radiograph, common_pb2.Radiograph(raw=made.hand)))
    return cases


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
                samples.append(await asyncio.to_thread(_memory, group))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        took_s, tally = time.monotonic() - began_s, load.tally
        samples.append(await asyncio.to_thread(_memory, group))
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


def _memory(group: Group) -> float:
    return float(sum(member.resident_bytes() for member in group.members()) + resident_bytes(group.tritons))


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
            settled.append(await asyncio.to_thread(_memory, group))
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
