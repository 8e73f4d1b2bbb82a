"""How a model service gets its model: from the repository's releases, loaded while the ports already answer probes."""

import asyncio
from collections.abc import Callable, Sequence

from services.core.adapters.inference_onnxruntime import OnnxRuntimeInference
from services.core.adapters.model_store import ReleaseStore
from services.core.domain.ports import Inference, Releases, Tensors
from services.core.errors import ModelUnavailableError
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from services.core.runtime.settings import ModelSettings, RuntimeSettings, ServerSettings


class ModelServerSettings(ServerSettings, ModelSettings, RuntimeSettings):
    """The settings of a process that serves one model."""


class LoadingInference:
    """An Inference that has no model at first: every call is refused until `use` gives it one."""

    def __init__(self) -> None:
        self._loaded: Inference | None = None

    def use(self, loaded: Inference) -> None:
        """Answer with `loaded` from here on."""
        self._loaded = loaded

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """As `ports.Inference.infer`; raises ModelUnavailableError while the model is being loaded."""
        if self._loaded is None:
            raise ModelUnavailableError(f"{model} version {version} is still being loaded")
        return await self._loaded.infer(model, version, inputs, timeout_s=timeout_s)

    async def ready(self, model: str, version: int) -> bool:
        """Whether that version answers now."""
        return self._loaded is not None and await self._loaded.ready(model, version)


Register = Callable[[Releases, Inference], Registration]


async def serve_model(
    process: Process, settings: ModelServerSettings, models: Sequence[str], register: Register
) -> None:
    """Serve the versions of `models` that the repository's releases name, until the process is stopped."""
    releases = ReleaseStore(settings.model_repository)
    if settings.inference == "triton":
        from services.core.runtime.triton_models import serve_on_triton  # noqa: PLC0415 -- only where Triton is chosen

        await serve_on_triton(process, settings.triton_url, releases, models, register)
        return
    inference = LoadingInference()
    async with process.serving(register(releases, inference)):
        inference.use(await asyncio.to_thread(load, settings, releases, models))
        await process.set_ready(ready=True)
        await process.stopped()


def load(settings: ModelServerSettings, releases: ReleaseStore, models: Sequence[str]) -> Inference:
    """The versions of `models` that the repository's releases name."""
    pinned = [releases.get(release).models for release in releases.ids()]
    return OnnxRuntimeInference(
        settings.model_repository,
        {model: {versions[model] for versions in pinned if model in versions} for model in models},
        threads=settings.onnx_threads,
        queue=settings.inference_queue,
    )
