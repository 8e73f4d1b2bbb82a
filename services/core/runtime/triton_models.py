"""How a model service runs its model on Triton: it serves while any one server has what the current release needs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from services.core.adapters.inference_triton import TritonInference
from services.core.adapters.model_repository import ModelRepository
from services.core.errors import ModelUnavailableError
from services.core.runtime.model_host import host_registration
from services.core.runtime.pinned import PinnedVersions
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from services.core.runtime.settings import RuntimeSettings


class Elsewhere:
    """A `VersionHost` of nothing: models run on Triton, but which releases are known here is still to be told."""

    models: tuple[str, ...] = ()
    loaded: tuple[tuple[str, int], ...] = ()

    async def serve(self, model: str, versions: frozenset[int]) -> None:
        """Never: no model is run here."""
        raise ModelUnavailableError(f"{model} versions {sorted(versions)} are Triton's to load")


async def serve_on_triton(
    process: Process,
    settings: RuntimeSettings,
    releases: ModelRepository,
    models: Sequence[str],
    register: Callable[[ModelRepository, TritonInference], Registration],
) -> None:
    """Serve by the Tritons of the settings until the process is stopped. Raises ConfigurationError."""
    versions = PinnedVersions(releases, models)
    inference = TritonInference(settings.triton_url, versions.wanted)
    host = host_registration(Elsewhere(), releases.ids, settings.host_key_file)
    try:
        async with process.serving(register(releases, inference), *host), asyncio.TaskGroup() as group:
            following = group.create_task(inference.follow())
            telling = group.create_task(tell_readiness(inference, versions.needed, process.set_ready))
            await process.stopped()
            following.cancel()
            telling.cancel()
    finally:
        await inference.close()


async def tell_readiness(
    inference: TritonInference,
    needed: Callable[[], Iterable[tuple[str, int]]],
    tell: Callable[[bool], Awaitable[None]],
) -> None:
    """Tell whether any one server has all that is needed, whenever that changes, until cancelled."""
    told = False
    while True:
        await inference.until_polled()
        ready = inference.have_all(needed())
        if ready != told:
            structlog.get_logger().info("triton", ready=ready)
            await tell(ready)
            told = ready
