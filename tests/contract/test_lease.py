"""Leadership by a Lease, with the official client over real connections: one decides, and stops before another does.

What Kubernetes itself answers is shown by tests/cluster/test_0_lease.py.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from itertools import count

import pytest
from kubernetes import client
from structlog.testing import capture_logs

from services.core.errors import ConfigurationError, ModelUnavailableError
from services.release.leadership import LockLeadership, leadership_of
from services.release.lease import LeaseLeadership, Times
from services.release.settings import Settings
from tests.lease_api import running_lease_api
from tests.relay import relay_to
from tests.waiting import until

PLACE = "serving/boneage-release"
TIMES = Times(lease_s=2, deadline_s=1.2, renew_s=0.2, look_s=0.1)


@pytest.fixture
def api():
    """An API server of this test's own."""
    with running_lease_api() as server:
        yield server


class LostError(Exception):
    """In place of the process's end."""


class Candidate:
    """One release service."""

    def __init__(self, port: int) -> None:
        configuration = client.Configuration(host=f"http://127.0.0.1:{port}", retries=False)
        self._client = client.ApiClient(configuration)
        self.lease = LeaseLeadership(PLACE, client.CoordinationV1Api(self._client), times=TIMES, lost=self._lose)
        self.since_s = self.lost_s = 0.0
        self.reason = ""
        self._done = asyncio.Event()
        self.task = asyncio.create_task(self._lead())

    def _lose(self, reason: str):
        self.lost_s, self.reason = time.monotonic(), reason
        raise LostError

    async def _lead(self) -> None:
        async with self.lease.leading():
            self.since_s = time.monotonic()
            await self._done.wait()

    @property
    def leads(self) -> bool:
        """Whether it may write."""
        try:
            self.lease.check()
        except ModelUnavailableError:
            return False
        return True

    async def stop(self) -> None:
        """As on SIGTERM."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def candidates(*ports: int) -> AsyncIterator[list[Candidate]]:
    """Several, the first of whom leads already."""
    made = [Candidate(ports[0])]
    await until(lambda: made[0].leads)
    made += [Candidate(port) for port in ports[1:]]
    try:
        yield made
    finally:
        for one in made:
            await one.stop()


def holder(api):
    """Who holds the Lease, as the API server has it."""
    return api.leases[PLACE]["spec"].get("holderIdentity")


async def test_one_leads_and_the_next_follows_as_soon_as_it_stops(api):
    """A clean stop gives the Lease up: nobody waits for it to last out."""
    async with candidates(api.port, api.port) as (first, second):
        renewed = api.leases[PLACE]["spec"]["renewTime"]
        await until(lambda: api.leases[PLACE]["spec"]["renewTime"] > renewed)
        assert (first.leads, second.leads) == (True, False)
        await first.stop()
        stopped_s = time.monotonic()
        assert not first.leads
        await until(lambda: second.leads)
        assert second.since_s - stopped_s < 1.0
        assert api.leases[PLACE]["spec"]["leaseTransitions"] == 2


async def test_who_cannot_renew_stops_before_another_leads(api):
    """An API server that says nothing, as to a lost node: the leader ends at the deadline, then another leads."""
    async with relay_to(api.port) as relay, candidates(relay.port, api.port) as (first, second):
        relay.hold()
        held_s = time.monotonic()
        await until(lambda: second.leads)
        assert not first.leads
        assert 0 < first.lost_s < second.since_s
        assert first.lost_s - held_s <= TIMES.deadline_s + 0.5
        assert second.since_s - held_s >= TIMES.lease_s - TIMES.renew_s - 0.1
        relay.release()


async def test_an_outage_that_ends_in_time_changes_nothing(api):
    """The leader asks again until the deadline."""
    async with candidates(api.port, api.port) as (first, second):
        api.refusal = 503
        renewed = api.leases[PLACE]["spec"]["renewTime"]
        await until(lambda: first.lease._reason == "the API server answers 503 Service Unavailable")
        api.refusal = 0
        await until(lambda: api.leases[PLACE]["spec"]["renewTime"] > renewed)
        assert (first.leads, second.leads, first.lost_s) == (True, False, 0.0)


@pytest.mark.parametrize("clock", ["1999-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z"])
async def test_clocks_of_nodes_do_not_matter(api, clock):
    """What a dead leader's clock said makes nobody wait longer, or take the Lease before its time."""
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": clock, "leaseTransitions": 4}
    api.leases[PLACE] = {"metadata": {"name": "boneage-release", "namespace": "serving", "resourceVersion": "7"},
                         "spec": spec}  # fmt: skip
    began_s = time.monotonic()
    async with candidates(api.port) as (first,):
        assert 1.0 <= first.since_s - began_s < 3.0
        assert api.leases[PLACE]["spec"]["leaseTransitions"] == 5


async def test_who_was_suspended_does_not_decide(api, monkeypatch):
    """The machine slept and no monotonic clock went on but that of boot time; the Lease has run out meanwhile."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("only Linux has a clock that goes on while the machine is suspended; run this on Linux")
    async with candidates(api.port) as (first,):
        real = time.clock_gettime
        slept_s = {time.CLOCK_BOOTTIME: 2 * TIMES.deadline_s}
        monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + slept_s.get(clock, 0.0))
        assert not first.leads
        await until(lambda: first.lost_s)
        assert first.reason == "not renewed in time"


async def test_of_two_who_take_it_at_once_one_leads(api):
    """Both have read that nobody holds it; the API server takes one write, by the version that was read."""
    metadata = {"name": "boneage-release", "namespace": "serving", "resourceVersion": "7"}
    api.leases[PLACE] = {"metadata": metadata, "spec": {}}
    both = [Candidate(api.port) for _ in range(2)]
    writing, both_write = count(1), threading.Event()

    def wait_for_both() -> None:
        if next(writing) >= len(both):
            both_write.set()
        both_write.wait(5)

    api.before_write = wait_for_both
    await until(lambda: any(one.leads for one in both))
    assert sum(one.leads for one in both) == 1
    for one in both:
        await one.stop()


async def test_a_lease_that_is_another_s_is_lost_at_once(api):
    """Somebody deleted it, and another was quicker: there is no waiting for the deadline."""
    async with candidates(api.port) as (first,):
        api.write("PUT", PLACE, {**api.leases[PLACE], "spec": {"holderIdentity": "another"}})
        await until(lambda: first.lost_s > 0)
        assert first.reason == "another holds it"


async def test_a_lease_that_was_deleted_is_made_again(api):
    """By who leads, where nobody was quicker."""
    async with candidates(api.port) as (first,):
        mine = holder(api)
        del api.leases[PLACE]
        await until(lambda: PLACE in api.leases)
        assert (holder(api), first.leads) == (mine, True)


async def test_who_may_not_is_told_why_once(api):
    """As where the account lacks the right: it waits, and says so in one line."""
    api.refusal = 403
    with capture_logs() as logs:
        waiting = Candidate(api.port)
        await until(lambda: waiting.lease._reason != "")
        api.refusal = 0
        await until(lambda: waiting.leads)
        await waiting.stop()
    told = [entry["reason"] for entry in logs if entry["event"] == "lease awaited"]
    assert told == ["the API server answers 403 Forbidden"]
    assert holder(api) is None


async def test_what_has_no_leader_may_not_write(api, tmp_path):
    """Neither before nor after, by either kind."""
    lock = LockLeadership(tmp_path / "lock")
    with pytest.raises(ModelUnavailableError, match="not the active one"):
        lock.check()
    async with lock.leading():
        lock.check()
    with pytest.raises(ModelUnavailableError, match="not the active one"):
        lock.check()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"lease": "boneage-release"}, "'boneage-release' is not NAMESPACE/NAME"),
        ({"lease": PLACE, "lock_file": "/tmp/lock"}, "set either the lease or the lock file"),
        ({"lease": PLACE}, "no access to Kubernetes"),
    ],
)
def test_settings_that_cannot_be_are_refused(monkeypatch, values, reason):
    """At the start, with what to do."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match=f"BONEAGE_LEASE: .*{reason}|{reason}"):
        leadership_of(Settings(store="/srv/models", **values))
