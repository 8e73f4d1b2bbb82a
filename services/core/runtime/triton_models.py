"""How a model service runs its model on Triton: it serves while any one server has what the current release needs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

import structlog

from services.core.adapters.inference_triton import TritonInference
from services.core.adapters.model_repository import ModelRepository
from services.core.domain.release import Release
from services.core.errors import BoneageError
from services.core.runtime.process import Process
from services.core.runtime.server import Registration

Versions = frozenset[tuple[str, int]]


class PinnedVersions:
    """The versions of `models` that the repository's releases name now; what cannot be read names none."""

    def __init__(self, releases: ModelRepository, models: Sequence[str]) -> None:
        self._releases = releases
        self._models = models
        self._needed = self._of(releases.get())

    def needed(self) -> Versions:
        """Those of the current release; those that were, while the pointer or its release cannot be read."""
        with suppress(BoneageError):
            self._needed = self._of(self._releases.get())
        return self._needed

    def wanted(self) -> Versions:
        """Those of all releases that calls may name, the current one's among them."""
        versions = set(self.needed())
        with suppress(BoneageError):
            for release_id in self._releases.wanted():
                with suppress(BoneageError):
                    versions |= self._of(self._releases.get(release_id))
        return frozenset(versions)

    def _of(self, release: Release) -> Versions:
        return frozenset((model, version) for model, version in release.models.items() if model in self._models)


async def serve_on_triton(
    process: Process,
    places: str,
    releases: ModelRepository,
    models: Sequence[str],
    register: Callable[[ModelRepository, TritonInference], Registration],
) -> None:
    """Serve by the Tritons at `places` until the process is stopped. Raises ConfigurationError."""
    versions = PinnedVersions(releases, models)
    inference = TritonInference(places, versions.wanted)
    try:
        async with process.serving(register(releases, inference)), asyncio.TaskGroup() as group:
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
