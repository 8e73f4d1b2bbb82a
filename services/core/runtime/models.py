"""How a model service gets its model: from the repository's releases, loaded while the ports already answer probes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.core.adapters.inference_onnxruntime import OnnxRuntimeInference
from services.core.adapters.model_repository import ModelRepository
from services.core.domain.ports import Inference, Releases, Tensors
from services.core.errors import BoneageError, ModelUnavailableError
from services.core.runtime.model_host import host_registration
from services.core.runtime.pinned import PinnedVersions, Versions
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from services.core.runtime.settings import ModelSettings, RuntimeSettings, ServerSettings

LOOK_S: Final = 0.5
"""Between two looks at the pointer of the repository."""


class ModelServerSettings(ServerSettings, ModelSettings, RuntimeSettings):
    """The settings of a process that serves one model."""


class LoadingInference:
    """An Inference that has no model at first: every call is refused until `use` gives it one.

    It is a `VersionHost` too: what the release service has loaded comes on top.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)
        self._loaded: OnnxRuntimeInference | None = None

    def use(self, loaded: OnnxRuntimeInference) -> None:
        """Answer with `loaded` from here on."""
        self._loaded = loaded

    @property
    def loaded(self) -> Versions:
        """Versions that answer now."""
        return frozenset() if self._loaded is None else self._loaded.loaded

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """As `ports.Inference.infer`; raises ModelUnavailableError while the model is being loaded."""
        return await self._ready(model, version).infer(model, version, inputs, timeout_s=timeout_s)

    async def ready(self, model: str, version: int) -> bool:
        """Whether that version answers now."""
        return (model, version) in self.loaded

    async def serve(self, model: str, versions: frozenset[int]) -> None:
        """Have exactly these versions of a model loaded."""
        await self._ready(model, *versions).serve(model, versions)

    def _ready(self, model: str, *versions: int) -> OnnxRuntimeInference:
        if self._loaded is None:
            raise ModelUnavailableError(f"{model} version {', '.join(map(str, versions))} is still being loaded")
        return self._loaded


Register = Callable[[Releases, Inference], Registration]


async def serve_model(
    process: Process, settings: ModelServerSettings, models: Sequence[str], register: Register
) -> None:
    """Serve the versions of `models` that the repository's wanted releases name, until the process is stopped."""
    releases = ModelRepository(settings.model_repository)
    if settings.inference == "triton":
        from services.core.runtime.triton_models import serve_on_triton  # noqa: PLC0415 -- only where Triton is chosen

        await serve_on_triton(process, settings, releases, models, register)
        return
    inference, pinned = LoadingInference(models), PinnedVersions(releases, models)
    host = host_registration(inference, releases.ids, settings.host_key_file)
    async with process.serving(register(releases, inference), *host):
        inference.use(await asyncio.to_thread(load, settings, releases, models))
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell_readiness(inference, pinned, process))
            await process.stopped()
            telling.cancel()


async def _tell_readiness(inference: LoadingInference, pinned: PinnedVersions, process: Process) -> None:
    """Tell whether what the current release needs is loaded, whenever that changes, until cancelled."""
    told = False
    while True:
        if (ready := pinned.needed() <= inference.loaded) != told:
            await process.set_ready(ready=ready)
            told = ready
        await asyncio.sleep(LOOK_S)


def load(settings: ModelServerSettings, releases: ModelRepository, models: Sequence[str]) -> OnnxRuntimeInference:
    """The versions of `models` that the repository's wanted releases name.

    Raises ReleaseError, ModelContractError or ModelUnavailableError for one of the current release; another that is
    damaged is logged and left out: it must not keep from serving what is well.
    """
    pinned = PinnedVersions(releases, models)
    inference = OnnxRuntimeInference(
        settings.model_repository,
        {model: {number for name, number in pinned.needed() if name == model} for model in models},
        threads=settings.onnx_threads,
        queue=settings.inference_queue,
    )
    for model, number in sorted(pinned.wanted() - pinned.needed()):
        try:
            inference.load(model, number)
        except BoneageError as error:
            structlog.get_logger().error("not loaded", model=model, version=number, reason=str(error))
    return inference
