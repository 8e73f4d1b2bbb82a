"""Leadership by a Lease of Kubernetes: of several release services one decides, whatever becomes of nodes and network.

As client-go does it: whoever holds the Lease renews it, and another takes it where it has seen no change for as long as
it lasts. All times are of one's own monotonic clock, so that clocks of nodes may differ: a leader counts from before it
sent a renewal, the others from after they saw it. The leader stops at a deadline that is shorter than the Lease lasts.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, NoReturn
from uuid import uuid4

import structlog
from kubernetes import client

from services.core.adapters.cluster import CALL_TIMEOUT_S, UNREACHED, connect, why
from services.core.errors import ModelUnavailableError


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: how long a Lease lasts, until when it must be renewed, and the rests between renewals and looks."""

    lease_s: int = 15
    deadline_s: float = 10.0
    renew_s: float = 2.0
    look_s: float = 0.8


TIMES: Final = Times()
CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Where there is one that goes on in a machine that is suspended, that one: the Lease runs out meanwhile."""


def _now_s() -> float:
    return time.clock_gettime(CLOCK)


def _end(reason: str) -> NoReturn:
    """End at once, also what worker threads are at: another may decide in a moment."""
    structlog.get_logger().error("the lease is lost", reason=reason)
    os._exit(1)


def lease_leadership(place: str) -> "LeaseLeadership":
    """By the Lease NAMESPACE/NAME of the cluster that this process is in. Raises ConfigurationError."""
    return LeaseLeadership(place, client.CoordinationV1Api(connect()))


class LeaseLeadership:
    """Fulfils `leadership.Leadership` by the Lease NAMESPACE/NAME; `lost` ends the process."""

    def __init__(
        self, place: str, api: client.CoordinationV1Api, *, times: Times = TIMES, lost: Callable[[str], NoReturn] = _end
    ) -> None:
        self._namespace, _, self._name = place.partition("/")
        self._api, self._times, self._lost = api, times, lost
        self._identity = f"{socket.gethostname()}_{uuid4()}"
        self._decides_until_s = 0.0
        self._seen: tuple[object, ...] = ()
        self._seen_at_s = 0.0
        self._reason = ""
        self._requests = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._log = structlog.get_logger()

    def check(self) -> None:
        """Raises ModelUnavailableError where this process does not lead, or cannot be sure of it."""
        if _now_s() >= self._decides_until_s:
            raise ModelUnavailableError("this release service is not the active one")

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        """Wait for the Lease, hold it while the context lasts, and give it up, so that another need not wait."""
        try:
            while not await self._tried():  # noqa: ASYNC110 -- the API server is asked, and tells nobody
                await asyncio.sleep(self._times.look_s)
            async with self._renewed():
                yield
        finally:  # also of who was stopped in the moment of taking it
            self._decides_until_s = 0.0
            await asyncio.get_running_loop().run_in_executor(self._requests, self._give_up)
            self._requests.shutdown(wait=False)

    @asynccontextmanager
    async def _renewed(self) -> AsyncIterator[None]:
        """Renew it meanwhile."""
        self._log.info("leading", identity=self._identity)
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self) -> None:
        """Renew again and again; where that does not come about in time, it is the end."""
        while True:
            await asyncio.sleep(self._times.renew_s)
            try:
                async with asyncio.timeout(self._decides_until_s - _now_s()):
                    while not await self._tried():
                        if self._holder() != self._identity:
                            self._lost(f"{self._holder() or 'nobody'} holds it")
                        await asyncio.sleep(self._times.look_s)
            except TimeoutError:
                self._lost(self._reason or "not renewed in time")

    async def _tried(self) -> bool:
        """Whether a try to take or renew the Lease came about; what keeps it from that is logged once."""
        sent_s = _now_s()
        try:
            taken = await asyncio.get_running_loop().run_in_executor(self._requests, self._take)
            reason = "" if taken or not self._holder() else f"{self._holder()} holds it"
        except UNREACHED as error:
            taken, reason = False, why(error)
        if taken:
            self._decides_until_s = sent_s + self._times.deadline_s
        elif reason != self._reason:
            self._log.info("lease awaited", reason=reason)
        self._reason = reason
        return taken

    def _take(self) -> bool:
        """Take or renew the Lease, if nobody else holds it or was quicker."""
        lease = self._read()
        if lease is None:
            metadata = client.V1ObjectMeta(name=self._name, namespace=self._namespace)
            made = client.V1Lease(metadata=metadata, spec=self._spec(client.V1LeaseSpec()))
            return self._written(self._api.create_namespaced_lease, self._namespace, made)
        self._see(lease.spec)
        lasts_s = lease.spec.lease_duration_seconds or self._times.lease_s
        if self._holder() not in ("", self._identity) and _now_s() - self._seen_at_s < lasts_s:
            return False
        lease.spec = self._spec(lease.spec)
        return self._written(self._api.replace_namespaced_lease, self._name, self._namespace, lease)

    def _give_up(self) -> None:
        try:
            lease = self._read()
            if lease is not None and lease.spec.holder_identity == self._identity:
                lease.spec.holder_identity = None
                self._written(self._api.replace_namespaced_lease, self._name, self._namespace, lease)
        except UNREACHED as error:  # then it lasts out
            self._log.warning("lease not given up", reason=why(error))

    def _read(self) -> Any:
        """The Lease as it is; None where there is none yet."""
        try:
            lease = self._api.read_namespaced_lease(self._name, self._namespace, _request_timeout=CALL_TIMEOUT_S)
        except client.ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        lease.spec = lease.spec or client.V1LeaseSpec()  # as whoever made it for us left it
        return lease

    def _written(self, write: Callable[..., Any], *arguments: object) -> bool:
        """Whether nobody wrote since it was read: the API server compares the resource's version."""
        try:
            lease = write(*arguments, _request_timeout=CALL_TIMEOUT_S)
        except client.ApiException as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        self._see(lease.spec)
        return True

    def _see(self, spec: Any) -> None:
        """Remember since when it is as it is now."""
        seen = (spec.holder_identity or "", spec.renew_time, spec.lease_transitions)
        if seen != self._seen:
            self._seen, self._seen_at_s = seen, _now_s()

    def _holder(self) -> str:
        return str(self._seen[0]) if self._seen else ""

    def _spec(self, before: Any) -> client.V1LeaseSpec:
        now, taken = datetime.now(UTC), before.holder_identity != self._identity
        return client.V1LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=self._times.lease_s,
            acquire_time=now if taken else before.acquire_time,
            renew_time=now,  # for people: nobody else reads it as a time
            lease_transitions=(before.lease_transitions or 0) + taken,
        )
