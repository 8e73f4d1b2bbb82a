"""Translates `EnhancementService` to the pipeline and back."""

from typing import Any

import grpc

from boneage.v1 import enhancement_pb2, enhancement_pb2_grpc
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.domain.ports import Releases
from services.core.domain.preprocess import Image, Mask
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers
from services.enhancement.pipeline import EnhancementPipeline

SERVICE = enhancement_pb2.DESCRIPTOR.services_by_name["EnhancementService"].full_name


class EnhancementServicer(enhancement_pb2_grpc.EnhancementServiceServicer):
    """Answers `Enhance`."""

    def __init__(self, pipeline: EnhancementPipeline, releases: Releases, workers: Workers, limits: Limits) -> None:
        self._pipeline = pipeline
        self._releases = releases
        self._workers = workers
        self._limits = limits

    async def Enhance(  # noqa: N802 -- the name is the protocol's
        self, request: enhancement_pb2.EnhanceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> enhancement_pb2.EnhanceResponse:
        """Prepare the hand of one radiograph."""
        deadline = Deadline.after(context.time_remaining())
        release = self._releases.get(request.release)
        true_shape = wire.true_shape(request.radiograph)
        pixels, mask = await self._workers.run(self._decode, request)
        result = await self._pipeline.enhance(pixels, mask, true_shape=true_shape, release=release, deadline=deadline)
        return enhancement_pb2.EnhanceResponse(
            hand=wire.raw_float32(result.hand.image),
            crop=wire.square_to_wire(result.hand.crop),
            enhanced=result.enhanced,
            structure_change=result.structure_change,
            model=wire.model_to_wire(result.model),
            release=release.id,
            negative=result.hand.negative,
        )

    def _decode(self, request: enhancement_pb2.EnhanceRequest) -> tuple[Image, Mask]:
        pixels = wire.radiograph(request.radiograph, limits=self._limits).pixels
        return pixels, wire.mask_from_wire(request.mask, shape=(pixels.shape[0], pixels.shape[1]))
