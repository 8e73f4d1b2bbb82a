"""What the release service decides: nothing is routed to unchecked or unloaded, and nothing is told before kept."""

import asyncio

import pytest

from services.core.domain.contracts import REGRESSOR
from services.core.domain.routing import Routing
from services.core.errors import (
    InvalidRequestError,
    ModelContractError,
    ModelUnavailableError,
    OverloadedError,
    ReleaseError,
    StoreUnavailableError,
    UnknownReleaseError,
)
from services.core.runtime.workers import Workers
from services.release.pipeline import ReleasePipeline
from services.release.reconciler import Reconciler
from services.release.state import Status
from tests.releases import MemoryCatalogue, MemoryHost
from tests.waiting import until


@pytest.fixture
def catalogue():
    """Three releases, the first being current."""
    return MemoryCatalogue("r1", "r2", "r3")


@pytest.fixture
def host():
    """Two runtimes."""
    return MemoryHost("a", "b")


@pytest.fixture
async def pipeline(catalogue, host):
    """At work on both."""
    workers = Workers(2)
    made = ReleasePipeline(catalogue, workers, ready_timeout_s=0.5)
    reconciler = await made.begin(lambda needed: Reconciler([host], needed, unload_delay_s=0.0))
    following = asyncio.create_task(reconciler.follow(interval_s=0.01))
    await until(made.ready)
    yield made
    following.cancel()
    workers.close()


async def test_a_promoted_release_is_loaded_everywhere_before_it_answers(pipeline, catalogue, host):
    """The one before stays loaded, and the store knows."""
    routing = await pipeline.promote("r2", caller="ops")
    assert routing == Routing("r2", previous="r1") == catalogue.state.routing
    for backend in ("a", "b"):
        assert {(REGRESSOR, 1), (REGRESSOR, 2)} <= host.loaded[backend]
    assert (await pipeline.get("r1")).status is Status.PREVIOUS
    assert [(e.caller, e.action) for e in pipeline.events("r2")] == [("ops", "promote")]


async def test_a_rollback_needs_nothing_to_be_loaded(pipeline, host):
    """The previous release answers again though no runtime can load anything."""
    await pipeline.promote("r2", caller="ops")
    host.away.update(host.loaded)
    assert await pipeline.rollback(caller="ops", reason="ages look wrong") == Routing("r1", previous="r2")
    assert pipeline.events("r2")[-1].detail == "ages look wrong"


async def test_a_rollback_waits_for_nobody(pipeline, host):
    """Another release is being let in, which may take minutes; nobody else may be let in meanwhile."""
    await pipeline.promote("r2", caller="ops")
    host.unknown["b"] = {"r3"}
    letting_in = asyncio.create_task(pipeline.promote("r3", caller="ops"))
    await until(lambda: "r3" in pipeline.state.candidates)
    with pytest.raises(OverloadedError, match="another release is being let in"):
        await pipeline.canary("r3", 5, caller="ops")
    assert await pipeline.rollback(caller="ops", reason="") == Routing("r1", previous="r2")
    host.unknown.clear()
    assert await letting_in == Routing("r3", previous="r1"), "it goes by what holds when it is ready"


async def test_a_rollback_to_what_a_runtime_has_lost_is_refused(pipeline, host):
    """The message says which lacks what; a release that answers nowhere would be worse."""
    await pipeline.promote("r2", caller="ops")
    host.wrong[REGRESSOR, 1] = "no space left on device"
    host.restart("b")
    await until(lambda: (REGRESSOR, 2) in host.loaded["b"])
    with pytest.raises(ModelUnavailableError, match=r"r1 is not loaded everywhere: b lacks boneage_regressor 1"):
        await pipeline.rollback(caller="ops", reason="")
    assert pipeline.state.routing == Routing("r2", previous="r1")


async def test_a_store_that_is_away_speaks_against_no_release(pipeline, catalogue, monkeypatch):
    """It is not refused, and nothing stays loaded for it."""

    def away(_):
        raise StoreUnavailableError("the store does not answer")

    monkeypatch.setattr(catalogue, "verify", away)
    with pytest.raises(StoreUnavailableError):
        await pipeline.promote("r2", caller="ops")
    assert (await pipeline.get("r2")).status is Status.AVAILABLE
    assert pipeline.state.candidates == ()


async def test_nothing_is_decided_after_the_end(pipeline, catalogue):
    """Another service may be the active one by then."""
    await pipeline.close()
    with pytest.raises(ModelUnavailableError, match="stopping"):
        await pipeline.promote("r2", caller="ops")
    assert catalogue.state.routing == Routing("r1")


async def test_who_is_not_the_active_one_says_so():
    """A standby has taken up nothing yet."""
    workers = Workers(1)
    with pytest.raises(ModelUnavailableError, match="not the active one"):
        await ReleasePipeline(MemoryCatalogue("r1"), workers, ready_timeout_s=1.0).rollback(caller="ops", reason="")
    workers.close()


async def test_a_rollback_without_a_previous_release_is_refused(pipeline):
    """There is nowhere to go back to."""
    with pytest.raises(InvalidRequestError, match="no release before"):
        await pipeline.rollback(caller="ops", reason="")


async def test_a_canary_gets_its_share_and_gives_it_up(pipeline):
    """It can be raised, ended, and promoted, after which it is none."""
    assert await pipeline.canary("r2", 50, caller="ops") == Routing("r1", canary="r2", canary_permille=50)
    assert (await pipeline.canary("r2", 500, caller="ops")).canary_permille == 500
    assert await pipeline.canary("", 0, caller="ops") == Routing("r1")
    assert (await pipeline.get("r2")).status is Status.RETIRED
    await pipeline.canary("r2", 50, caller="ops")
    assert await pipeline.promote("r2", caller="ops") == Routing("r2", previous="r1")


async def test_what_is_needed_is_known_all_the_while(pipeline, catalogue):
    """A release that shadows already is read anew to become the canary; the runtimes are looked after meanwhile."""
    await pipeline.shadow("r2", caller="ops")
    read, needed = catalogue.release, []

    def slowly(release_id):
        needed.append(pipeline.needed())
        return read(release_id)

    catalogue.release = slowly
    await pipeline.canary("r2", 10, caller="ops")
    assert needed
    assert all((REGRESSOR, 2) in versions for versions in needed)


async def test_a_shadow_becomes_a_canary(pipeline):
    """A release has one role at a time."""
    assert await pipeline.shadow("r2", caller="ops") == Routing("r1", shadow="r2")
    assert await pipeline.canary("r2", 10, caller="ops") == Routing("r1", canary="r2", canary_permille=10)
    assert await pipeline.shadow("r3", caller="ops") == Routing("r1", canary="r2", canary_permille=10, shadow="r3")
    assert await pipeline.shadow("", caller="ops") == Routing("r1", canary="r2", canary_permille=10)


@pytest.mark.parametrize("change", ["promote", "canary", "shadow"])
async def test_an_altered_release_is_refused_with_its_reason(pipeline, catalogue, host, change):
    """It is loaded nowhere, what answers is untouched, and `show` says why."""
    catalogue.altered["r2"] = "is not what was signed"
    host.asked.clear()
    with pytest.raises(ReleaseError, match="is not what was signed"):
        await (
            pipeline.canary("r2", 5, caller="ops")
            if change == "canary"
            else getattr(pipeline, change)("r2", caller="ops")
        )
    found = await pipeline.get("r2")
    assert (found.status, found.reason) == (Status.REFUSED, "releases/r2.json: is not what was signed")
    assert pipeline.state.routing == Routing("r1")
    assert host.asked == []


async def test_a_model_that_does_not_load_is_refused_and_unloaded(pipeline, host):
    """The runtime's reason is the release's; nobody waits for the whole timeout."""
    host.wrong[REGRESSOR, 2] = "its output has another shape"
    with pytest.raises(ModelContractError, match="its output has another shape"):
        await pipeline.promote("r2", caller="ops")
    assert (await pipeline.get("r2")).status is Status.REFUSED
    await until(lambda: all((REGRESSOR, 1) in loaded and len(loaded) == 3 for loaded in host.loaded.values()))


async def test_a_refused_release_may_be_tried_again(pipeline, catalogue):
    """What was mended is let in, and no reason is left."""
    catalogue.altered["r2"] = "is not what was signed"
    with pytest.raises(ReleaseError):
        await pipeline.promote("r2", caller="ops")
    catalogue.altered.clear()
    await pipeline.promote("r2", caller="ops")
    assert (await pipeline.get("r2")).reason == ""


async def test_a_runtime_that_lacks_it_keeps_a_release_from_answering(pipeline, host):
    """The message says what is missing where."""
    host.unknown["b"] = {"r2"}
    with pytest.raises(ModelUnavailableError, match="b lacks its manifest"):
        await pipeline.promote("r2", caller="ops")
    assert pipeline.state.routing == Routing("r1")


async def test_an_unknown_release_leaves_no_trace(pipeline, catalogue):
    """A misspelt id is no refused release."""
    with pytest.raises(UnknownReleaseError):
        await pipeline.promote("r9", caller="ops")
    assert catalogue.state.refused == {}


async def test_what_cannot_be_kept_is_not_told(pipeline, catalogue):
    """A full store ends the change; whoever follows the routing hears of nothing."""
    heard = []

    async def listen():
        async for routing in pipeline.watch():
            heard.append(routing)  # noqa: PERF401 -- one by one, as they come

    listening = asyncio.create_task(listen())
    await until(lambda: len(heard) == 1)
    catalogue.broken = True
    with pytest.raises(ReleaseError, match="no space left"):
        await pipeline.promote("r2", caller="ops")
    catalogue.broken = False
    await pipeline.promote("r2", caller="ops")
    await until(lambda: len(heard) == 2)
    await pipeline.close()
    await listening
    assert heard == [Routing("r1"), Routing("r2", previous="r1")]


async def test_what_was_decided_holds_after_a_restart(pipeline, catalogue, host):
    """Another process takes up routing, events and reasons."""
    await pipeline.promote("r2", caller="ops")
    await pipeline.canary("r3", 20, caller="ops")
    workers = Workers(1)
    again = ReleasePipeline(catalogue, workers, ready_timeout_s=1.0)
    await again.begin(lambda needed: Reconciler([host], needed, unload_delay_s=0.0))
    workers.close()
    assert again.state == pipeline.state
    assert (REGRESSOR, 3) in again.needed()


async def test_garbage_is_what_nothing_needs(pipeline, catalogue):
    """Current, previous, canary and shadow stay, and so does every version that any release which stays pins."""
    for number in range(4, 9):
        catalogue.add(f"r{number}")
    catalogue.add("r9", version=4)
    await pipeline.promote("r2", caller="ops")
    await pipeline.canary("r3", 20, caller="ops")
    asked = await pipeline.collect_garbage(keep=2, dry_run=True, caller="ops")
    assert asked.releases == ("r4", "r5", "r6", "r7")
    assert len(catalogue.ids()) == 9
    done = await pipeline.collect_garbage(keep=2, dry_run=False, caller="ops")
    assert done == asked
    assert catalogue.ids() == ["r1", "r2", "r3", "r8", "r9"]
    assert {number for _, number in catalogue.versions()} == {1, 2, 3, 4, 8}


async def test_current_release_is_neither_canary_nor_shadow(pipeline):
    """It answers already."""
    for change in (
        pipeline.promote("r1", caller="o"),
        pipeline.canary("r1", 5, caller="o"),
        pipeline.shadow("r1", caller="o"),
    ):
        with pytest.raises(InvalidRequestError, match="already"):
            await change


async def test_a_share_beyond_all_studies_is_refused(pipeline):
    """The caller is told, and nothing stays loaded for it."""
    with pytest.raises(InvalidRequestError, match="1 to 1000"):
        await pipeline.canary("r2", 1001, caller="ops")
    assert pipeline.state.candidates == ()
