"""Translates `RegressionService` to the pipeline and back."""

from typing import Any

import grpc

from boneage.v1 import regression_pb2, regression_pb2_grpc
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.domain.ports import Releases
from services.core.domain.reading import Age
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers
from services.regression.pipeline import Reading, RegressionPipeline

SERVICE = regression_pb2.DESCRIPTOR.services_by_name["RegressionService"].full_name


class RegressionServicer(regression_pb2_grpc.RegressionServiceServicer):
    """Answers `EstimateBoneAge`."""

    def __init__(self, pipeline: RegressionPipeline, releases: Releases, workers: Workers, limits: Limits) -> None:
        self._pipeline = pipeline
        self._releases = releases
        self._workers = workers
        self._limits = limits

    async def EstimateBoneAge(  # noqa: N802 -- the name is the protocol's
        self, request: regression_pb2.EstimateBoneAgeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> regression_pb2.EstimateBoneAgeResponse:
        """Read one hand."""
        deadline = Deadline.after(context.time_remaining())
        release = self._releases.get(request.release)
        sex = wire.sex_from_wire(request.sex) or "unknown"
        decoded = await self._workers.run(wire.radiograph, request.hand, limits=self._limits, field="hand")
        reading = await self._pipeline.read(decoded.pixels, sex=sex, release=release, deadline=deadline)
        response = _abstained(reading) if reading.abstention else _answered(reading)
        response.model.CopyFrom(wire.model_to_wire(reading.model))
        response.release = release.id
        response.quarter_turns = reading.quarter_turns
        if request.report_ungated and isinstance(reading.value, Age):
            response.ungated_age_months = reading.value.months
        return response


def _answered(reading: Reading) -> regression_pb2.EstimateBoneAgeResponse:
    response = regression_pb2.EstimateBoneAgeResponse(
        status=regression_pb2.ASSESSMENT_STATUS_OK, activation=wire.activation_to_wire(reading.activation)
    )
    wire.set_value(response, reading.value)
    return response


def _abstained(reading: Reading) -> regression_pb2.EstimateBoneAgeResponse:
    return regression_pb2.EstimateBoneAgeResponse(
        status=regression_pb2.ASSESSMENT_STATUS_ABSTAINED,
        abstention=wire.abstention_to_wire(reading.abstention),
    )
