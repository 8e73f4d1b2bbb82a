"""Starts the assessment service: `python -m services.assessment`."""

import asyncio
from contextlib import AsyncExitStack

from boneage.v1.assessment_pb2_grpc import add_AssessmentServiceServicer_to_server
from services.assessment.pictures import Painter
from services.assessment.pipeline import AssessmentPipeline
from services.assessment.readiness import StageReadiness
from services.assessment.servicer import SERVICE, AssessmentServicer, Bounds
from services.assessment.settings import Settings
from services.assessment.stages import GrpcStages, open_channels
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.runtime.process import Process, run_process
from services.core.runtime.server import Registration


async def serve(process: Process, settings: Settings) -> None:
    """Wire the parts and serve until stopped."""
    channels = open_channels(settings)
    stages = GrpcStages(channels)
    pipeline = AssessmentPipeline(stages, Painter(stages, process.workers, wire.png, wire.picture))
    limits = Limits(maximum_pixels=settings.maximum_pixels, maximum_bytes=settings.maximum_message_bytes)
    bounds = Bounds(limits, process.admission, settings.stream_items_in_flight)
    servicer = AssessmentServicer(pipeline, process.workers, process.telemetry, bounds)
    async with AsyncExitStack() as stack:
        for channel in channels.values():
            stack.push_async_callback(channel.close, None)
        await stack.enter_async_context(
            process.serving(Registration(SERVICE, servicer, add_AssessmentServiceServicer_to_server))
        )
        readiness = StageReadiness(channels, process.set_ready)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(readiness.follow())
            await process.stopped()
            following.cancel()


if __name__ == "__main__":
    run_process(SERVICE, Settings, serve)
