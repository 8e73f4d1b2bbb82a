"""Releases that change, Tritons that die, too much load: a little of what `make soak` does, against real Tritons.

Two of every service and two Tritons, as processes of their own; only the clients run here.
"""

from pathlib import Path

import pytest
import pytest_asyncio

from boneage.v1 import assessment_pb2, assessment_pb2_grpc
from services.core.domain.contracts import ENHANCER, REGRESSOR, SEGMENTER
from tests import soak
from tests.group import running_group
from tests.load import DEADLINE_S, prepared
from tests.models import hand_picture, tiny_release, write_repository
from tests.overload import cancelled, overloaded
from tests.serving import as_png

CALLS, CYCLES = 300, 5


def tiny(folder: Path):
    """A release of tiny models, and their weights."""
    root = write_repository(folder / "weights")
    names = (SEGMENTER, ENHANCER, REGRESSOR)
    return tiny_release(), {name: root / name / "1" / "model.onnx" for name in names}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def group(tmp_path_factory):
    """Two of everything."""
    folder = tmp_path_factory.mktemp("group")
    async with running_group(folder, *tiny(folder), UNLOAD_DELAY_S=5) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cases(group):
    """Drawn hands of several brightnesses."""
    pictures = [hand_picture() * brightness for brightness in (0.8, 0.9, 1.0)]
    return await prepared(group, [as_png(picture) for picture in pictures])


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_no_call_fails_while_releases_and_processes_change(group, cases):
    """Publish, canary, promote, roll back; one Triton and one of each service stopped and started: nobody notices."""
    tally, changes = await soak.rolling(group, cases, calls=CALLS, cycles=CYCLES)
    assert tally.failures == []
    assert tally.refused == []
    assert tally.mixed(group) == []
    assert len(tally.answers) >= CALLS
    assert len(tally.releases) >= CYCLES
    assert changes.promoted == CYCLES + 1
    assert len(changes.rolled_back) == CYCLES // 2
    assert changes.restarted[0] == "triton"
    assert changes.slowest_rollback_s(tally) <= 30


async def test_killed_tritons_are_noticed_and_filled_again(group, cases):
    """Only clear errors within the deadline; then it goes on by itself, nothing of ours being started anew."""
    recovery = await soak.killed(group, cases)
    assert {failure.split(":")[0] for failure in recovery.tally.failures} <= {"ModelUnavailableError"}
    assert recovery.tally.slowest_failure_s <= DEADLINE_S + 1
    assert recovery.recovered_s <= 10


async def test_serving_goes_on_without_the_release_service(group, cases):
    """It is down, one of every service is started anew meanwhile, and the last routing holds."""
    async with group.releases() as releases:
        current = (await releases.list()).routing.current
    tally = await soak.without_releases(group, cases, calls=CALLS, instances=1)
    assert tally.failures == []
    assert tally.refused == []
    assert set(tally.releases) == {current}


async def test_what_is_no_longer_needed_is_unloaded(group):
    """Publish and roll back again and again: what is no longer needed is unloaded everywhere."""
    before, after = await soak.republished(group, cycles=CYCLES, warm_up=2)
    assert before > 0
    assert after > 0


async def test_too_much_is_refused_at_once(group, cases):
    """At three times what can be done every call is answered or refused, and none fails."""
    found = await overloaded(group, cases, seconds=6)
    assert found.refused > 0
    assert found.answered > 0
    assert found.failures == []


async def test_what_is_cancelled_does_not_run(group, cases):
    """A tenth of a second after all callers have gone, no more ends than the Tritons were at."""
    found = await cancelled(group, cases)
    assert max(found.late.values()) <= found.at_once


async def test_the_backbone_runs_once_for_an_assessment(group, cases):
    """The grid that explains an age comes with it: one inference of each model, by Triton's own counters."""
    counts = [{name: sum(t.count("count", name) for t in group.tritons) for name in (SEGMENTER, ENHANCER, REGRESSOR)}]
    async with group.channel("assessment", "boneage.v1.AssessmentService") as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        request = assessment_pb2.AssessRequest(radiograph=cases[0].radiograph, include_artifacts=True)
        reply = await stub.Assess(request, timeout=DEADLINE_S)
    counts.append({name: sum(t.count("count", name) for t in group.tritons) for name in counts[0]})
    assert reply.artifacts.cam_png
    assert reply.activation.values_months
    assert {name: counts[1][name] - counts[0][name] for name in counts[0]} == dict.fromkeys(counts[0], 1)


async def test_load_is_spread_over_all_tritons(tmp_path):
    """Four Tritons share it evenly, and one that comes later gets its share."""
    async with running_group(tmp_path, *tiny(tmp_path), tritons=4, instances=1) as group:
        cases = await prepared(group, [as_png(hand_picture())])
        for server in group.tritons:  # a service serves once one is ready, and finds the others later
            await soak.until_shared(group, cases, server, timeout_s=30)
        counts = await soak.spread(group, cases, calls=2 * CALLS)
        assert max(counts) <= 1.2 * min(counts)
        group.tritons[3].kill()
        await soak.until_left(group, group.tritons[3])
        group.tritons[3].start()
        await soak.until_shared(group, cases, group.tritons[3], timeout_s=30)
