"""The standard gRPC health service, truthful: NOT_SERVING until the models are ready, and again from the stop on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the base class has no types
    """One truth for the process, told for the empty name and for each name in `services`."""

    def __init__(self, services: Sequence[str]) -> None:
        self._names = frozenset(("", *services))
        self._changed = asyncio.Condition()
        self.serving = False
        self.started = False
        self.stopping = False
        self._closed = False

    async def set_serving(self, *, serving: bool) -> None:
        """Say whether calls are answered; without effect once the process is stopping."""
        async with self._changed:
            self.serving = serving and not self.stopping
            self.started |= self.serving
            self._changed.notify_all()

    async def until(self, *, serving: bool) -> None:
        """Wait until calls are answered, or until they are not."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.serving == serving)

    async def stop(self) -> None:
        """NOT_SERVING from here on, whatever is set later."""
        self.stopping = True
        await self.set_serving(serving=False)

    async def close(self) -> None:
        """End every watch, so that none keeps the server from ending."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def Check(  # noqa: N802 -- the name is the protocol's
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The state of a service now."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802 -- the name is the protocol's
        self,
        request: health_pb2.HealthCheckRequest,
        context: Context,  # noqa: ARG002 -- the signature is the protocol's
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state of a service now and at each change."""
        last: int | None = None
        while True:
            status, closed = self._status(request.service), self._closed
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            if closed:  # as it was when the status was read: what changed while that was sent is told before the end
                return
            last = status
            await self._until_other(request.service, status)

    async def _until_other(self, service: str, last: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._status(service) != last)

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in self._names:
            return SERVICE_UNKNOWN
        return SERVING if self.serving else NOT_SERVING
