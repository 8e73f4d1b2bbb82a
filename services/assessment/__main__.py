"""Starts the assessment service: `python -m services.assessment`."""

import asyncio
from contextlib import AsyncExitStack

from boneage.v1.assessment_pb2_grpc import add_AssessmentServiceServicer_to_server
from services.assessment.pictures import Painter
from services.assessment.pipeline import AssessmentPipeline
from services.assessment.readiness import StageReadiness
from services.assessment.routing import FollowedRouting
from services.assessment.servicer import SERVICE, AssessmentServicer, Bounds, Served
from services.assessment.settings import Settings
from services.assessment.shadow import Shadow
from services.assessment.stages import GrpcStages, open_channels
from services.client import ReleaseClient, stage_tls
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
    releases = release_client(settings)
    routing = FollowedRouting(releases, settings.routing_file)
    shadow = Shadow(pipeline, process.telemetry, in_flight=settings.shadow_in_flight)
    servicer = AssessmentServicer(pipeline, process.workers, process.telemetry, bounds, Served(routing, shadow))
    async with AsyncExitStack() as stack:
        if releases is not None:
            stack.push_async_callback(releases.close)
        for channel in channels.values():
            stack.push_async_callback(channel.close, None)
        await stack.enter_async_context(
            process.serving(Registration(SERVICE, servicer, add_AssessmentServiceServicer_to_server))
        )
        stack.push_async_callback(shadow.close)
        readiness = StageReadiness(channels, process.set_ready)
        async with asyncio.TaskGroup() as group:
            following = [group.create_task(readiness.follow()), group.create_task(routing.follow())]
            await process.stopped()
            for task in following:
                task.cancel()


def release_client(settings: Settings) -> ReleaseClient | None:
    """The client of the release service, with the same certificates as for the stages; none where there is no such."""
    return ReleaseClient(settings.release_address, tls=stage_tls(settings)) if settings.release_address else None


if __name__ == "__main__":
    run_process(SERVICE, Settings, serve)
