"""The client of the release service: shows releases, moves them, and follows the routing."""

from collections.abc import AsyncGenerator
from typing import Final, Self

from boneage.v1 import release_pb2, release_pb2_grpc
from services.client.channel import calling, connect
from services.client.tls import Tls
from services.core.domain.routing import Routing

SERVICE: Final = release_pb2.DESCRIPTOR.services_by_name["ReleaseService"].full_name
DEADLINE_S: Final = 15.0
CHANGE_DEADLINE_S: Final = 300.0
"""A release is loaded everywhere before the answer comes."""
WATCH_S: Final = 300.0
"""A watch ends by then and is opened anew: no call is without a deadline."""

Metadata = tuple[tuple[str, str], ...]


class ReleaseClient:
    """Calls the release service at HOST:PORT; an async context manager. `token` is shown with every change.

    Errors are those of `services.core.errors`, UnauthenticatedError and PermissionDeniedError among them.
    """

    def __init__(self, address: str, *, tls: Tls | None = None, token: str = "") -> None:
        # Tried once: a change that was made, and whose answer was lost, must not be made again.
        self._channel = connect(address, SERVICE, tls=tls, attempts=1)
        self._stub = release_pb2_grpc.ReleaseServiceStub(self._channel)
        self._metadata: Metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close(None)

    async def list(self) -> release_pb2.ListResponse:
        """All releases, and the routing."""
        with calling():
            return await self._stub.List(release_pb2.ListRequest(), timeout=DEADLINE_S)

    async def get(self, release: str = "") -> release_pb2.GetResponse:
        """One release with its events; the current one for an empty id."""
        with calling():
            return await self._stub.Get(release_pb2.GetRequest(release=release), timeout=DEADLINE_S)

    async def verify(self, release: str) -> release_pb2.VerifyResponse:
        """Check a release now."""
        with calling():
            return await self._stub.Verify(release_pb2.VerifyRequest(release=release), timeout=CHANGE_DEADLINE_S)

    async def promote(self, release: str) -> Routing:
        """Let a release answer everything."""
        request = release_pb2.PromoteRequest(release=release)
        with calling():
            reply = await self._stub.Promote(request, timeout=CHANGE_DEADLINE_S, metadata=self._metadata)
        return routing_from_wire(reply.routing)

    async def canary(self, release: str, permille: int) -> Routing:
        """Let a release answer a share of the studies; an empty id or 0 ends that."""
        request = release_pb2.CanaryRequest(release=release, permille=permille)
        with calling():
            reply = await self._stub.Canary(request, timeout=CHANGE_DEADLINE_S, metadata=self._metadata)
        return routing_from_wire(reply.routing)

    async def shadow(self, release: str) -> Routing:
        """Let a release read along; an empty id ends that."""
        request = release_pb2.ShadowRequest(release=release)
        with calling():
            reply = await self._stub.Shadow(request, timeout=CHANGE_DEADLINE_S, metadata=self._metadata)
        return routing_from_wire(reply.routing)

    async def rollback(self, reason: str) -> Routing:
        """Go back to the release before the current one."""
        request = release_pb2.RollbackRequest(reason=reason)
        with calling():
            reply = await self._stub.Rollback(request, timeout=DEADLINE_S, metadata=self._metadata)
        return routing_from_wire(reply.routing)

    async def collect_garbage(self, *, keep: int, dry_run: bool) -> release_pb2.CollectGarbageResponse:
        """Delete what is needed no more, or only say what that is."""
        request = release_pb2.CollectGarbageRequest(keep=keep, dry_run=dry_run)
        with calling():
            return await self._stub.CollectGarbage(request, timeout=CHANGE_DEADLINE_S, metadata=self._metadata)

    async def watch(self) -> AsyncGenerator[Routing, None]:
        """The routing now and at each change, until the server or the connection ends."""
        call = self._stub.WatchRouting(release_pb2.WatchRoutingRequest(), timeout=WATCH_S)
        with calling():
            async for message in call:
                yield routing_from_wire(message.routing)


def routing_from_wire(message: release_pb2.Routing) -> Routing:
    """A message as a routing. Raises ValueError for one that contradicts itself."""
    return Routing(
        current=message.current,
        previous=message.previous,
        canary=message.canary,
        canary_permille=message.canary_permille,
        shadow=message.shadow,
    )
