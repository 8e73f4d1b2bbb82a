"""Translates `CamService` to the pipeline and back."""

from dataclasses import dataclass
from typing import Any

import grpc

from boneage.v1 import cam_pb2, cam_pb2_grpc
from services.cam.pipeline import CamPipeline, HeatMap, heat_map, overlay
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.domain.ports import Releases
from services.core.domain.reading import Activation, ModelVersion
from services.core.domain.release import Release
from services.core.errors import InvalidRequestError
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers

SERVICE = cam_pb2.DESCRIPTOR.services_by_name["CamService"].full_name


@dataclass(frozen=True, slots=True)
class Pictures:
    """A map and its PNG files; no overlay where none was asked for."""

    heat: HeatMap
    heat_png: bytes
    overlay_png: bytes


class CamServicer(cam_pb2_grpc.CamServiceServicer):
    """Answers `Explain`."""

    def __init__(self, pipeline: CamPipeline, releases: Releases, workers: Workers, limits: Limits) -> None:
        self._pipeline = pipeline
        self._releases = releases
        self._workers = workers
        self._limits = limits

    async def Explain(  # noqa: N802 -- the name is the protocol's
        self, request: cam_pb2.ExplainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> cam_pb2.ExplainResponse:
        """Explain one reading."""
        deadline = Deadline.after(context.time_remaining())
        release = self._releases.get(request.release)
        if not request.HasField("crop"):
            raise InvalidRequestError("say which square of the radiograph the hand is", field="crop")
        activation, model = await self._activation(request, release, deadline)
        pictures = await self._workers.run(self._draw, request, activation)
        return cam_pb2.ExplainResponse(
            heat_png=pictures.heat_png,
            low_months=pictures.heat.low_months,
            high_months=pictures.heat.high_months,
            overlay_png=pictures.overlay_png,
            activation=wire.activation_to_wire(activation),
            model=None if model is None else wire.model_to_wire(model),
            release=release.id,
        )

    async def _activation(
        self, request: cam_pb2.ExplainRequest, release: Release, deadline: Deadline
    ) -> tuple[Activation, ModelVersion | None]:
        if request.HasField("activation"):
            return wire.activation_from_wire(request.activation), None
        sex = wire.sex_from_wire(request.sex) or "unknown"
        hand = await self._workers.run(wire.radiograph, request.hand, limits=self._limits, field="hand")
        return await self._pipeline.activation(hand.pixels, sex=sex, release=release, deadline=deadline)

    def _draw(self, request: cam_pb2.ExplainRequest, activation: Activation) -> Pictures:
        pixels = wire.radiograph(request.radiograph, limits=self._limits).pixels
        heat = heat_map(activation, wire.square_from_wire(request.crop), shape=(pixels.shape[0], pixels.shape[1]))
        drawn = b"" if request.omit_overlay else wire.png(overlay(pixels, heat))
        return Pictures(heat, wire.png(heat.heat), drawn)
