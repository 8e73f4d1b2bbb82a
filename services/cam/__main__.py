"""Starts the CAM service: `python -m services.cam`."""

from boneage.v1.cam_pb2_grpc import add_CamServiceServicer_to_server
from services.cam.pipeline import CamPipeline
from services.cam.servicer import SERVICE, CamServicer
from services.cam.settings import Settings
from services.core.adapters.imaging import Limits
from services.core.domain.contracts import READERS
from services.core.domain.ports import Inference, Releases
from services.core.runtime.models import serve_model
from services.core.runtime.process import Process, run_process
from services.core.runtime.server import Registration


async def serve(process: Process, settings: Settings) -> None:
    """Wire the parts and serve until stopped."""

    def register(releases: Releases, inference: Inference) -> Registration:
        limits = Limits(maximum_pixels=settings.maximum_pixels, maximum_bytes=settings.maximum_message_bytes)
        pipeline = CamPipeline(inference, process.workers)
        servicer = CamServicer(pipeline, releases, process.workers, limits)
        return Registration(SERVICE, servicer, add_CamServiceServicer_to_server)

    await serve_model(process, settings, READERS, register)


if __name__ == "__main__":
    run_process(SERVICE, Settings, serve)
