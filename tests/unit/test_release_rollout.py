"""Rolling a new release out by itself: shadow, canary, everything; and stopping a worse one, with the reason."""

import asyncio

import pytest

from services.core.domain.routing import Routing
from services.core.errors import ConfigurationError
from services.core.runtime.workers import Workers
from services.release.gate import Criteria
from services.release.pipeline import ReleasePipeline
from services.release.reconciler import Reconciler
from services.release.rollout import Plan, Rollout, in_order
from services.release.state import Status
from tests.releases import Counted, MemoryCatalogue, MemoryHost
from tests.waiting import until

CRITERIA = Criteria(failed_share=0.01, latency_ratio=1.5, difference_months=6.0, abstained_share=0.05)
PLAN = Plan(CRITERIA, shadow_assessments=20, canary_assessments=50, canary_permille=100, phase_timeout_s=600.0)
SHADOW, CANARY = Routing("r1", shadow="r2"), Routing("r1", canary="r2", canary_permille=100)


class Clock:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self):
        """What it shows."""
        return self.now_s


@pytest.fixture
def catalogue():
    """One release, which answers."""
    return MemoryCatalogue("r1")


@pytest.fixture
async def pipeline(catalogue):
    """At work on one runtime; the release that was there at the start is seen."""
    workers = Workers(2)
    made = ReleasePipeline(catalogue, workers, ready_timeout_s=0.5)
    reconciler = await made.begin(lambda needed: Reconciler([MemoryHost("a")], needed, unload_delay_s=0.0))
    following = asyncio.create_task(reconciler.follow(interval_s=0.01))
    await until(made.ready)
    await made.see(["r1"])
    yield made
    following.cancel()
    workers.close()


@pytest.fixture
def counted():
    """What the assessments count."""
    return Counted()


@pytest.fixture
def clock():
    """Of the rollout."""
    return Clock()


@pytest.fixture
def rollout(pipeline, counted, clock):
    """By the usual plan."""
    return Rollout(pipeline, counted, PLAN, clock=clock)


async def routing_after(rollout, pipeline):
    """The routing after one step."""
    await rollout.step()
    return pipeline.state.routing


async def test_a_good_release_goes_all_the_way(rollout, pipeline, catalogue, counted):
    """Shadow, canary, current: each only after enough was seen."""
    assert await routing_after(rollout, pipeline) == Routing("r1")
    catalogue.add("r2")
    assert await routing_after(rollout, pipeline) == SHADOW
    counted.add("r2", shadowed=19, compared=19, difference_months=20.0)
    assert await routing_after(rollout, pipeline) == SHADOW
    counted.add("r2", shadowed=1, compared=1)
    assert await routing_after(rollout, pipeline) == CANARY
    counted.add("r1", answered=450, seconds=90.0)
    counted.add("r2", answered=49, seconds=10.0)
    assert await routing_after(rollout, pipeline) == CANARY
    counted.add("r2", answered=1, seconds=0.2)
    assert await routing_after(rollout, pipeline) == Routing("r2", previous="r1")
    assert [(e.caller, e.action) for e in pipeline.events("r2")] == [
        ("automatic", "shadow"), ("automatic", "canary"), ("automatic", "promote"),
    ]  # fmt: skip
    assert await routing_after(rollout, pipeline) == Routing("r2", previous="r1")


async def test_a_shadow_that_disagrees_never_answers_anybody(rollout, pipeline, catalogue, counted):
    """It is refused with the figure, and not tried again."""
    catalogue.add("r2")
    await rollout.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=400.0)
    assert await routing_after(rollout, pipeline) == Routing("r1")
    found = await pipeline.get("r2")
    assert found.status is Status.REFUSED
    assert "stopped as shadow: its ages differ by 20.0 months" in found.reason
    assert await routing_after(rollout, pipeline) == Routing("r1")


async def test_a_canary_that_fails_is_stopped_before_it_is_through(rollout, pipeline, catalogue, counted):
    """Once more has failed than may, nobody waits for the rest."""
    catalogue.add("r2")
    await rollout.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=20.0)
    await rollout.step()
    counted.add("r1", answered=100, seconds=20.0)
    counted.add("r2", answered=3, failed=2, seconds=1.0)
    assert await routing_after(rollout, pipeline) == Routing("r1")
    assert "40.0% of its assessments failed" in (await pipeline.get("r2")).reason


async def test_a_phase_that_sees_too_little_ends(rollout, pipeline, catalogue, counted, clock):
    """A release is not left half way for ever."""
    catalogue.add("r2")
    await rollout.step()
    clock.now_s = 599.0
    counted.add("r2", shadowed=3, compared=3)
    assert await routing_after(rollout, pipeline) == SHADOW
    clock.now_s = 601.0
    assert await routing_after(rollout, pipeline) == Routing("r1")
    assert "only 3 of 20" in (await pipeline.get("r2")).reason


async def test_what_came_before_a_phase_is_not_its_own(rollout, pipeline, catalogue, counted):
    """Failures of a release's earlier life do not count."""
    counted.add("r2", shadowed=100, shadow_failed=100)
    catalogue.add("r2")
    await rollout.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=20.0)
    assert await routing_after(rollout, pipeline) == CANARY


async def test_a_person_may_take_it_over(rollout, pipeline, catalogue, counted):
    """Who ends the shadow has the last word: the rollout lets go."""
    catalogue.add("r2")
    await rollout.step()
    await pipeline.shadow("", caller="ops")
    counted.add("r2", shadowed=20, compared=20)
    await rollout.step()
    assert await routing_after(rollout, pipeline) == Routing("r1")


async def test_a_person_who_changes_the_share_has_taken_it_over(rollout, pipeline, catalogue, counted):
    """Who cuts the canary to look at it does not want it promoted."""
    catalogue.add("r2")
    await rollout.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=20.0)
    await rollout.step()
    await pipeline.canary("r2", 10, caller="ops")
    counted.add("r2", answered=50, seconds=10.0)
    await rollout.step()
    assert await routing_after(rollout, pipeline) == Routing("r1", canary="r2", canary_permille=10)


async def test_a_phase_begins_anew_when_the_current_release_changes(rollout, pipeline, catalogue, counted):
    """What the canary did beside another says nothing of how it does beside this one."""
    catalogue.add("r2")
    await rollout.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=20.0)
    assert await routing_after(rollout, pipeline) == CANARY
    counted.add("r1", answered=700, abstained=300, seconds=200.0)
    counted.add("r2", answered=30, abstained=19, seconds=10.0)
    catalogue.add("r3")
    await pipeline.promote("r3", caller="ops")
    counted.add("r3", answered=1000, seconds=200.0)
    counted.add("r2", answered=1)
    changed = Routing("r3", previous="r1", canary="r2", canary_permille=100)
    assert await routing_after(rollout, pipeline) == changed
    counted.add("r3", answered=1000, seconds=200.0)
    counted.add("r2", answered=38, abstained=12, seconds=10.0)
    assert await routing_after(rollout, pipeline) == Routing("r3", previous="r1")
    assert "abstains from 24.0%, the current release from 0.0%" in (await pipeline.get("r2")).reason


async def test_failures_that_both_share_stop_nobody_early(rollout, pipeline, catalogue, counted):
    """An outage of something else is no reason against the newer one."""
    catalogue.add("r2")
    await rollout.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=20.0)
    await rollout.step()
    counted.add("r1", answered=80, failed=20, seconds=20.0)
    counted.add("r2", answered=8, failed=2, seconds=2.0)
    assert await routing_after(rollout, pipeline) == CANARY


@pytest.mark.parametrize(("older", "newer"), [("v9", "v10"), ("2026.11.4", "2026.12.1"), ("2026.9.1", "2026.10.1")])
def test_ids_follow_one_another_as_people_count(older, newer):
    """The newest of several is the one that a person would call so."""
    assert in_order(older) < in_order(newer)


async def test_a_restart_goes_on_where_it_was(rollout, pipeline, catalogue, counted, clock):
    """Another process finds its own shadow, and counts from then on."""
    catalogue.add("r2")
    await rollout.step()
    again = Rollout(pipeline, counted, PLAN, clock=clock)
    await again.step()
    counted.add("r2", shadowed=20, compared=20, difference_months=20.0)
    assert await routing_after(again, pipeline) == CANARY


async def test_of_several_new_releases_the_newest_is_taken(rollout, pipeline, catalogue):
    """What it supersedes is not rolled out afterwards."""
    catalogue.add("r2")
    catalogue.add("r3")
    assert await routing_after(rollout, pipeline) == Routing("r1", shadow="r3")
    assert set(pipeline.state.known) == {"r1", "r2", "r3"}


async def test_a_release_that_does_not_load_is_refused_and_the_rollout_goes_on(rollout, pipeline, catalogue):
    """An altered release is named; the next one is looked at."""
    catalogue.add("r2")
    catalogue.altered["r2"] = "is not signed"
    following = asyncio.create_task(rollout.follow(interval_s=0.01))
    await until(lambda: "r2" in pipeline.state.refused)
    catalogue.add("r3")
    await until(lambda: pipeline.state.routing == Routing("r1", shadow="r3"))
    following.cancel()


async def test_error_against_readings_needs_a_source(pipeline, counted):
    """The criterion is refused at the start, not passed over later."""
    plan = Plan(Criteria(0.01, 1.5, 6.0, 0.05, mae_months=8.0), 20, 50, 100, 600.0)
    with pytest.raises(ConfigurationError, match="no source of readings"):
        Rollout(pipeline, counted, plan)


async def test_error_against_readings_stops_a_canary(pipeline, catalogue, counted):
    """With a source, a release whose ages are wrong does not go on."""

    class Readings:
        async def mae_months(self, release_id):
            return {"r2": 11.0}[release_id]

    plan = Plan(Criteria(0.01, 1.5, 6.0, 0.05, mae_months=8.0), 0, 10, 100, 600.0)
    rollout = Rollout(pipeline, counted, plan, readings=Readings())
    catalogue.add("r2")
    assert await routing_after(rollout, pipeline) == CANARY
    counted.add("r2", answered=10, seconds=1.0)
    assert await routing_after(rollout, pipeline) == Routing("r1")
    assert "11.0 months, more than 8" in (await pipeline.get("r2")).reason
