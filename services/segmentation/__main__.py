"""Starts the segmentation service: `python -m services.segmentation`."""

from boneage.v1.segmentation_pb2_grpc import add_SegmentationServiceServicer_to_server
from services.core.adapters.imaging import Limits
from services.core.domain.contracts import SEGMENTER
from services.core.domain.ports import Inference, Releases
from services.core.runtime.models import serve_model
from services.core.runtime.process import Process, run_process
from services.core.runtime.server import Registration
from services.segmentation.pipeline import SegmentationPipeline
from services.segmentation.servicer import SERVICE, SegmentationServicer
from services.segmentation.settings import Settings


async def serve(process: Process, settings: Settings) -> None:
    """Wire the parts and serve until stopped."""

    def register(releases: Releases, inference: Inference) -> Registration:
        limits = Limits(maximum_pixels=settings.maximum_pixels, maximum_bytes=settings.maximum_message_bytes)
        pipeline = SegmentationPipeline(inference, process.workers)
        servicer = SegmentationServicer(pipeline, releases, process.workers, limits)
        return Registration(SERVICE, servicer, add_SegmentationServiceServicer_to_server)

    await serve_model(process, settings, (SEGMENTER,), register)


if __name__ == "__main__":
    run_process(SERVICE, Settings, serve)
