"""Translates `ReleaseService` to the pipeline and back; what changes something is asked of known callers alone."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

import grpc

from boneage.v1 import release_pb2, release_pb2_grpc
from services.core.domain.routing import Routing
from services.core.runtime.authorisation import Callers
from services.release.pipeline import ReleasePipeline, Summary
from services.release.state import Event, Status

SERVICE: Final = release_pb2.DESCRIPTOR.services_by_name["ReleaseService"].full_name
STATUSES: Final = {
    Status.AVAILABLE: release_pb2.RELEASE_STATUS_AVAILABLE,
    Status.SHADOW: release_pb2.RELEASE_STATUS_SHADOW,
    Status.CANARY: release_pb2.RELEASE_STATUS_CANARY,
    Status.CURRENT: release_pb2.RELEASE_STATUS_CURRENT,
    Status.PREVIOUS: release_pb2.RELEASE_STATUS_PREVIOUS,
    Status.RETIRED: release_pb2.RELEASE_STATUS_RETIRED,
    Status.REFUSED: release_pb2.RELEASE_STATUS_REFUSED,
}
Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")


class ReleaseServicer(release_pb2_grpc.ReleaseServiceServicer):
    """Answers every method of `ReleaseService`."""

    def __init__(self, pipeline: ReleasePipeline, callers: Callers) -> None:
        self._pipeline = pipeline
        self._callers = callers

    async def List(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.ListRequest, context: Context
    ) -> release_pb2.ListResponse:
        """All releases."""
        del request, context
        summaries = [to_summary(summary) for summary in await self._pipeline.summaries()]
        return release_pb2.ListResponse(releases=summaries, routing=to_routing(self._pipeline.state.routing))

    async def Get(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.GetRequest, context: Context
    ) -> release_pb2.GetResponse:
        """One release with its events."""
        del context
        summary = to_summary(await self._pipeline.get(request.release))
        events = [to_event(event) for event in self._pipeline.events(request.release)]
        return release_pb2.GetResponse(summary=summary, events=events)

    async def Verify(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.VerifyRequest, context: Context
    ) -> release_pb2.VerifyResponse:
        """Check a release now."""
        del context
        verified = await self._pipeline.verify(request.release)
        return release_pb2.VerifyResponse(key_sha256=verified.key_sha256, files=verified.files)

    async def Promote(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.PromoteRequest, context: Context
    ) -> release_pb2.PromoteResponse:
        """Let a release answer everything."""
        caller = self._callers.require(context, "promote")
        return release_pb2.PromoteResponse(
            routing=to_routing(await _finished(self._pipeline.promote(request.release, caller=caller)))
        )

    async def Canary(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.CanaryRequest, context: Context
    ) -> release_pb2.CanaryResponse:
        """Let a release answer a share, or end that."""
        caller = self._callers.require(context, "canary")
        routing = await _finished(self._pipeline.canary(request.release, request.permille, caller=caller))
        return release_pb2.CanaryResponse(routing=to_routing(routing))

    async def Shadow(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.ShadowRequest, context: Context
    ) -> release_pb2.ShadowResponse:
        """Let a release read along, or end that."""
        caller = self._callers.require(context, "shadow")
        return release_pb2.ShadowResponse(
            routing=to_routing(await _finished(self._pipeline.shadow(request.release, caller=caller)))
        )

    async def Rollback(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.RollbackRequest, context: Context
    ) -> release_pb2.RollbackResponse:
        """Go back to the previous release."""
        caller = self._callers.require(context, "rollback")
        routing = await _finished(self._pipeline.rollback(caller=caller, reason=request.reason))
        return release_pb2.RollbackResponse(routing=to_routing(routing))

    async def CollectGarbage(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.CollectGarbageRequest, context: Context
    ) -> release_pb2.CollectGarbageResponse:
        """Delete what is needed no more."""
        caller = self._callers.require(context, "collect")
        garbage = await _finished(
            self._pipeline.collect_garbage(keep=request.keep, dry_run=request.dry_run, caller=caller)
        )
        return release_pb2.CollectGarbageResponse(
            releases=garbage.releases, versions=[f"{model}/{number}" for model, number in garbage.versions]
        )

    async def WatchRouting(  # noqa: N802 -- the name is the protocol's
        self, request: release_pb2.WatchRoutingRequest, context: Context
    ) -> AsyncIterator[release_pb2.WatchRoutingResponse]:
        """The routing now and at each change."""
        del request, context
        async for routing in self._pipeline.watch():
            yield release_pb2.WatchRoutingResponse(routing=to_routing(routing))


async def _finished(change: Coroutine[Any, Any, Result]) -> Result:
    """The result of a change, which goes on to its end though the caller leaves: half a change is none."""
    return await asyncio.shield(asyncio.ensure_future(change))


def to_routing(routing: Routing) -> release_pb2.Routing:
    """A routing as a message."""
    return release_pb2.Routing(
        current=routing.current,
        previous=routing.previous,
        canary=routing.canary,
        canary_permille=routing.canary_permille,
        shadow=routing.shadow,
    )


def to_summary(summary: Summary) -> release_pb2.ReleaseSummary:
    """A release as a message."""
    message = release_pb2.ReleaseSummary(id=summary.id, status=STATUSES[summary.status], reason=summary.reason)
    if summary.release is not None:
        message.models.update(summary.release.models)
        if summary.release.baseline_mae_months is not None:
            message.baseline_mae_months = summary.release.baseline_mae_months
    return message


def to_event(event: Event) -> release_pb2.ReleaseEvent:
    """An event as a message."""
    return release_pb2.ReleaseEvent(time=event.time, caller=event.caller, action=event.action, detail=event.detail)
