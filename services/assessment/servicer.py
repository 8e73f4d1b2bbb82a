"""Translates `AssessmentService` to the pipeline and back."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog

from boneage.v1 import assessment_pb2, assessment_pb2_grpc, regression_pb2
from services.assessment.in_flight import in_flight
from services.assessment.pipeline import Ask, Assessment, AssessmentPipeline, Radiograph, prepare
from services.assessment.routing import FollowedRouting
from services.assessment.shadow import FAILED, Shadow
from services.assessment.stopwatch import Stopwatch
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.adapters.wire_errors import status_code
from services.core.domain.contracts import Sex
from services.core.errors import BoneageError, DeadlineExceededError, ModelUnavailableError, UnknownReleaseError
from services.core.runtime.admission import Admission
from services.core.runtime.deadlines import Deadline
from services.core.runtime.interceptors import error_facts
from services.core.runtime.telemetry import Telemetry
from services.core.runtime.workers import Workers

SERVICE: Final = assessment_pb2.DESCRIPTOR.services_by_name["AssessmentService"].full_name
PATIENT_S: Final = 10.0
"""Seconds in which any release that is well has answered."""
NOT_THE_CALLERS: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""Statuses of a stage that may speak against the release that was asked; what was sent is not to blame for them."""
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one process takes on: the size of a radiograph, the calls at once, the items of a stream at once."""

    limits: Limits
    admission: Admission
    stream_items_in_flight: int


@dataclass(frozen=True, slots=True)
class Served:
    """Which release answers a study, and which reads along."""

    routing: FollowedRouting
    shadow: Shadow


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a request: the radiograph, the header's sex, and what tells its study from others."""

    radiograph: Radiograph
    sex: Sex | None
    study: bytes


class AssessmentServicer(assessment_pb2_grpc.AssessmentServiceServicer):
    """Answers `Assess` and `AssessStream`."""

    def __init__(
        self,
        pipeline: AssessmentPipeline,
        workers: Workers,
        telemetry: Telemetry,
        bounds: Bounds,
        served: Served,
    ) -> None:
        self._pipeline = pipeline
        self._served = served
        self._workers = workers
        self._telemetry = telemetry
        self._bounds = bounds
        self._log = structlog.get_logger()

    async def Assess(  # noqa: N802 -- the name is the protocol's
        self, request: assessment_pb2.AssessRequest, context: Context
    ) -> assessment_pb2.AssessResponse:
        """Assess one radiograph."""
        return await self._assess(request, Deadline.after(context.time_remaining()))

    async def AssessStream(  # noqa: N802 -- the name is the protocol's
        self, request_iterator: AsyncIterator[assessment_pb2.AssessStreamRequest], context: Context
    ) -> AsyncIterator[assessment_pb2.AssessStreamResponse]:
        """Assess many, a few at once; what comes faster waits with its sender."""

        async def item(request: assessment_pb2.AssessStreamRequest) -> assessment_pb2.AssessStreamResponse:
            async with self._bounds.admission.awaited():
                return await self._item(request, Deadline.after(context.time_remaining()))

        limit = self._bounds.stream_items_in_flight
        async with aclosing(in_flight(request_iterator, item, limit=limit)) as answers:
            async for answer in answers:
                yield answer

    async def _item(
        self, request: assessment_pb2.AssessStreamRequest, deadline: Deadline
    ) -> assessment_pb2.AssessStreamResponse:
        answer = assessment_pb2.AssessStreamResponse(item_id=request.item_id)
        try:
            answer.response.CopyFrom(await self._assess(request.request, deadline))
        except BoneageError as error:
            code = status_code(type(error)).name
            self._log.info("item", code=code, **error_facts(error))
            answer.failure.CopyFrom(assessment_pb2.Failure(code=code, field=error.field, reason=error.reason))
        return answer

    async def _assess(self, request: assessment_pb2.AssessRequest, deadline: Deadline) -> assessment_pb2.AssessResponse:
        watch = Stopwatch()
        asked_sex = wire.sex_from_wire(request.sex)
        with watch.stage("decode"):
            opened = await self._workers.run(self._decode, request)
        sex, source = choose_sex(asked_sex, opened.sex)
        release = request.release or self._served.routing.choose(opened.study)
        ask = Ask(sex, release, request.report_ungated)
        patient = deadline.left_s() >= PATIENT_S
        try:
            assessment = await self._pipeline.assess(opened.radiograph, ask, deadline=deadline, watch=watch)
        except BoneageError as error:
            if not request.release:
                self._count_failure(error, release, patient=patient)
            if release and not request.release and isinstance(error, UnknownReleaseError):
                # Chosen here, so that it is: a stage that has not heard of it yet may do so before the next try.
                raise ModelUnavailableError(f"release {release} has not come to every stage yet") from error
            raise
        response = to_response(assessment)
        response.sex, response.sex_source = wire.SEX_TO_WIRE[sex], source
        response.size.height, response.size.width = opened.radiograph.shape
        self._finish(assessment, response, watch)
        if self._served.routing.routing is not None:
            self._served.shadow.consider(
                opened.radiograph, ask, assessment, release=self._served.routing.routing.shadow
            )
        return response

    def _decode(self, request: assessment_pb2.AssessRequest) -> Opened:
        true_shape = wire.true_shape(request.radiograph)
        decoded = wire.radiograph(request.radiograph, limits=self._bounds.limits)
        radiograph = prepare(decoded.pixels, true_shape, keep_picture=request.include_artifacts)
        study = (request.study_uid or decoded.study_uid_hash_key or "").encode() or radiograph.frame.tobytes()
        return Opened(radiograph, decoded.sex, study)

    def _count_failure(self, error: BoneageError, release: str, *, patient: bool) -> None:
        """Count what may speak against a release that was chosen here; who hardly waits says nothing of it."""
        late = isinstance(error, DeadlineExceededError)
        if status_code(type(error)) in NOT_THE_CALLERS and (patient or not late):
            self._telemetry.assessments.labels(FAILED, release).inc()

    def _finish(self, assessment: Assessment, response: assessment_pb2.AssessResponse, watch: Stopwatch) -> None:
        for name, value_ms in watch.stages_ms.items():
            setattr(response.stages, f"{name}_ms", value_ms)
            self._telemetry.stage_seconds.labels(name).observe(value_ms / 1e3)
        response.stages.total_ms = watch.total_ms
        outcome = assessment.abstention.reason.name.lower() if assessment.abstention else "ok"
        self._telemetry.assessments.labels(outcome, assessment.release).inc()
        self._telemetry.assessment_seconds.labels(assessment.release).observe(watch.total_ms / 1e3)


def choose_sex(asked: Sex | None, header: Sex | None) -> "tuple[Sex, assessment_pb2.SexSource.ValueType]":
    """The sex to read with, and where it came from: the request, else the header, else nowhere."""
    if asked is not None:
        return asked, assessment_pb2.SEX_SOURCE_REQUEST
    if header is not None:
        return header, assessment_pb2.SEX_SOURCE_HEADER
    return "unknown", assessment_pb2.SEX_SOURCE_NONE


def to_response(assessment: Assessment) -> assessment_pb2.AssessResponse:
    """The answer as a message; sex, size and times are the servicer's to add."""
    response = assessment_pb2.AssessResponse(
        status=regression_pb2.ASSESSMENT_STATUS_ABSTAINED,
        abstention=wire.abstention_to_wire(assessment.abstention),
        crop=wire.square_to_wire(assessment.crop),
        foreground_fraction=assessment.foreground_fraction,
        enhanced=assessment.enhanced,
        negative=assessment.negative,
        quarter_turns=assessment.quarter_turns,
        ungated_age_months=assessment.ungated_age_months,
        models=[wire.model_to_wire(model) for model in assessment.models],
        release=assessment.release,
    )
    if assessment.answer is not None:
        response.status = regression_pb2.ASSESSMENT_STATUS_OK
        response.activation.CopyFrom(wire.activation_to_wire(assessment.answer.activation))
        wire.set_value(response, assessment.answer.value)
    if assessment.pictures is not None:
        pictures = assessment.pictures
        response.artifacts.mask_png, response.artifacts.enhanced_png = pictures.mask_png, pictures.enhanced_png
        response.artifacts.cam_png, response.artifacts.radiograph_png = pictures.cam_png, pictures.radiograph_png
    return response
