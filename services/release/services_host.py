"""The services that run models themselves, or know which releases there are, as one of the release service's hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from boneage.v1 import model_host_pb2, model_host_pb2_grpc
from services.client import KEEPALIVE, Tls, calling, open_channel
from services.core.adapters.addresses import Addresses
from services.core.errors import ModelContractError, ReleaseError
from services.core.runtime.model_host import KEY
from services.release.ports import Version

LOOK_TIMEOUT_S: Final = 3.0
LOAD_TIMEOUT_S: Final = 60.0


@dataclass(slots=True)
class _Service:
    """A connection, and what was seen there last."""

    channel: grpc.aio.Channel
    models: frozenset[str] = frozenset()
    releases: frozenset[str] = frozenset()
    stub: "model_host_pb2_grpc.ModelHostServiceAsyncStub" = field(init=False)

    def __post_init__(self) -> None:
        self.stub = model_host_pb2_grpc.ModelHostServiceStub(self.channel)


class ServicesHost:
    """Fulfils `ports.ModelHost` by `ModelHostService` at these addresses.

    `knows` tells whether a release's manifest has come to a service: only then can a call name it there.
    """

    def __init__(self, addresses: Addresses, key: str, *, tls: Tls | None = None) -> None:
        self._addresses, self._metadata, self._tls = addresses, ((KEY, key),), tls
        self._services: dict[str, _Service] = {}

    async def backends(self) -> tuple[str, ...]:
        """Addresses now; connections to those that went are closed."""
        addresses = await self._addresses.look_up()
        for gone in self._services.keys() - set(addresses):
            await self._services.pop(gone).channel.close(None)
        for address in addresses:
            if address not in self._services:
                self._services[address] = _Service(self._channel(address))
        return addresses

    def runs(self, backend: str, model: str) -> bool:
        """Whether that service runs that model itself, by what it said last."""
        return backend in self._services and model in self._services[backend].models

    def knows(self, backend: str, release_id: str) -> bool:
        """Whether a call can name that release there, by what it said last."""
        return backend in self._services and release_id in self._services[backend].releases

    async def served(self, backend: str) -> frozenset[Version]:
        """Versions that answer there."""
        service = self._services[backend]
        request = model_host_pb2.ListVersionsRequest()
        with calling():
            reply = await service.stub.ListVersions(request, timeout=LOOK_TIMEOUT_S, metadata=self._metadata)
        service.models, service.releases = frozenset(reply.models), frozenset(reply.releases)
        return frozenset((version.name, version.version) for version in reply.versions)

    async def serve(self, backend: str, model: str, versions: frozenset[int]) -> None:
        """Have exactly these versions of a model loaded there."""
        request = model_host_pb2.ServeVersionsRequest(model=model, versions=sorted(versions))
        with _damage_is_a_fault(), calling():
            await self._services[backend].stub.ServeVersions(request, timeout=LOAD_TIMEOUT_S, metadata=self._metadata)

    async def close(self) -> None:
        """Close all connections."""
        for service in self._services.values():
            await service.channel.close(None)
        self._services.clear()

    def _channel(self, address: str) -> grpc.aio.Channel:
        """Without the client library's health check: what is not ready yet is just what must be told to load.

        Certificates are those of names: the one that this address was looked up by is what is checked.
        """
        name = self._addresses.name_of(address)
        return open_channel(address, [*KEEPALIVE, *([("grpc.default_authority", name)] if name else [])], tls=self._tls)


@contextmanager
def _damage_is_a_fault() -> Iterator[None]:
    """A file that is not what was published cannot be loaded later either, unlike one that has not come yet."""
    try:
        yield
    except ReleaseError as error:
        raise ModelContractError(error.reason, field=error.field) from error
