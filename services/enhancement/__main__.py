"""Starts the enhancement service: `python -m services.enhancement`."""

from boneage.v1.enhancement_pb2_grpc import add_EnhancementServiceServicer_to_server
from services.core.adapters.imaging import Limits
from services.core.domain.contracts import ENHANCER
from services.core.domain.ports import Inference, Releases
from services.core.runtime.models import serve_model
from services.core.runtime.process import Process, run_process
from services.core.runtime.server import Registration
from services.enhancement.pipeline import EnhancementPipeline
from services.enhancement.servicer import SERVICE, EnhancementServicer
from services.enhancement.settings import Settings


async def serve(process: Process, settings: Settings) -> None:
    """Wire the parts and serve until stopped."""

    def register(releases: Releases, inference: Inference) -> Registration:
        limits = Limits(maximum_pixels=settings.maximum_pixels, maximum_bytes=settings.maximum_message_bytes)
        pipeline = EnhancementPipeline(inference, process.workers)
        servicer = EnhancementServicer(pipeline, releases, process.workers, limits)
        return Registration(SERVICE, servicer, add_EnhancementServiceServicer_to_server)

    await serve_model(process, settings, (ENHANCER,), register)


if __name__ == "__main__":
    run_process(SERVICE, Settings, serve)
