"""Translates `SegmentationService` to the pipeline and back."""

from typing import Any

import grpc

from boneage.v1 import segmentation_pb2, segmentation_pb2_grpc
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.domain.ports import Releases
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers
from services.segmentation.pipeline import SegmentationPipeline

SERVICE = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Answers `Segment`."""

    def __init__(self, pipeline: SegmentationPipeline, releases: Releases, workers: Workers, limits: Limits) -> None:
        self._pipeline = pipeline
        self._releases = releases
        self._workers = workers
        self._limits = limits

    async def Segment(  # noqa: N802 -- the name is the protocol's
        self, request: segmentation_pb2.SegmentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> segmentation_pb2.SegmentResponse:
        """Find the hand of one radiograph."""
        deadline = Deadline.after(context.time_remaining())
        release = self._releases.get(request.release)
        true_shape = wire.true_shape(request.radiograph)
        decoded = await self._workers.run(wire.radiograph, request.radiograph, limits=self._limits)
        found = await self._pipeline.segment(decoded.pixels, true_shape=true_shape, release=release, deadline=deadline)
        return segmentation_pb2.SegmentResponse(
            mask=await self._workers.run(wire.mask_to_wire, found.mask),
            crop=wire.square_to_wire(found.crop),
            foreground_fraction=found.foreground_fraction,
            abstention=wire.abstention_to_wire(found.abstention),
            model=wire.model_to_wire(found.model),
            release=release.id,
        )
