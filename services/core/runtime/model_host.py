"""The internal call by which the release service has this process load and unload versions of its models."""

import hmac
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from boneage.v1 import common_pb2, model_host_pb2, model_host_pb2_grpc
from services.core.errors import ConfigurationError, InvalidRequestError, PermissionDeniedError, UnauthenticatedError
from services.core.runtime.server import Registration

SERVICE: Final = model_host_pb2.DESCRIPTOR.services_by_name["ModelHostService"].full_name
KEY: Final = "boneage-host-key"
Context = grpc.aio.ServicerContext[Any, Any]


class VersionHost(Protocol):
    """What loads and unloads versions in this process."""

    @property
    def models(self) -> Iterable[str]:
        """Names of the models that can be run here; none where they run elsewhere."""

    @property
    def loaded(self) -> Iterable[tuple[str, int]]:
        """Versions that answer now."""

    async def serve(self, model: str, versions: frozenset[int]) -> None:
        """Have exactly these versions of a model loaded. Raises the errors of loading one."""


class ModelHostServicer(model_host_pb2_grpc.ModelHostServiceServicer):
    """Answers whoever shows the key; `releases` gives the ids of the releases that are known here."""

    def __init__(self, host: VersionHost, releases: Callable[[], Iterable[str]], key: str) -> None:
        self._host, self._releases, self._key = host, releases, key

    async def ListVersions(  # noqa: N802 -- the name is the protocol's
        self, request: model_host_pb2.ListVersionsRequest, context: Context
    ) -> model_host_pb2.ListVersionsResponse:
        """What is loaded and known."""
        del request
        self._check(context)
        return model_host_pb2.ListVersionsResponse(
            models=sorted(self._host.models),
            versions=[common_pb2.ModelVersion(name=name, version=number) for name, number in self._host.loaded],
            releases=sorted(self._releases()),
        )

    async def ServeVersions(  # noqa: N802 -- the name is the protocol's
        self, request: model_host_pb2.ServeVersionsRequest, context: Context
    ) -> model_host_pb2.ServeVersionsResponse:
        """Load and unload."""
        self._check(context)
        if request.model not in self._host.models:
            raise InvalidRequestError(f"{request.model!r} is not run here", field="model")
        await self._host.serve(request.model, frozenset(request.versions))
        return model_host_pb2.ServeVersionsResponse()

    def _check(self, context: Context) -> None:
        given = dict(context.invocation_metadata() or ()).get(KEY)
        if given is None:
            raise UnauthenticatedError("only the release service may call this; it shows the host key", field=KEY)
        if not hmac.compare_digest(str(given).encode(), self._key.encode()):
            raise PermissionDeniedError("that is not the host key", field=KEY)


def host_registration(
    host: VersionHost, releases: Callable[[], Iterable[str]], key_file: Path | None
) -> tuple[Registration, ...]:
    """The servicer to offer; none without a key. Raises ConfigurationError where the key cannot be read."""
    if key_file is None:
        return ()
    servicer = ModelHostServicer(host, releases, read_key(key_file))
    return (Registration(SERVICE, servicer, model_host_pb2_grpc.add_ModelHostServiceServicer_to_server),)


def read_key(key_file: Path) -> str:
    """The key in a file. Raises ConfigurationError where there is none."""
    try:
        key = key_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read it: {error.strerror}", field="BONEAGE_HOST_KEY_FILE") from error
    if not key:
        raise ConfigurationError("the file is empty", field="BONEAGE_HOST_KEY_FILE")
    return key
