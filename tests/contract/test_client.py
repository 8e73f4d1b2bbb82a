"""The client library against real servers that fail in every way a server can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from boneage.v1 import (
    assessment_pb2,
    assessment_pb2_grpc,
    enhancement_pb2,
    enhancement_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from services.client import AssessmentClient
from services.client.assessment import SERVICE
from services.core.adapters.wire_errors import kinds
from services.core.errors import BoneageError, DeadlineExceededError, ModelUnavailableError
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from tests.models import hand_picture, write_repository
from tests.serving import address, as_raw, running, serving

Context = grpc.aio.ServicerContext[Any, Any]
REQUEST = assessment_pb2.AssessRequest(radiograph=as_raw(hand_picture()))


class ScriptedAssessment(assessment_pb2_grpc.AssessmentServiceServicer):
    """Raises the errors it was given, one a call, and then answers."""

    def __init__(self, *errors: BoneageError) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.peers: set[str] = set()
        self.cancelled = asyncio.Event()

    async def Assess(  # noqa: N802 -- the name is the protocol's
        self, request: assessment_pb2.AssessRequest, context: Context
    ) -> assessment_pb2.AssessResponse:
        """The next error, or an answer."""
        self.calls += 1
        self.peers.add(context.peer())
        if self.errors:
            raise self.errors.pop(0)
        if request.release == "slow":
            await self._hold()
        return assessment_pb2.AssessResponse(release="scripted")

    async def AssessStream(  # noqa: N802 -- the name is the protocol's
        self, request_iterator: AsyncIterator[assessment_pb2.AssessStreamRequest], context: Context
    ) -> AsyncIterator[assessment_pb2.AssessStreamResponse]:
        """Every item is answered with its id."""
        async for item in request_iterator:
            yield assessment_pb2.AssessStreamResponse(item_id=item.item_id)

    async def _hold(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def client_of(servicer: ScriptedAssessment, *, deadline_s: float = 15.0) -> AsyncIterator[AssessmentClient]:
    """The client library connected to that servicer."""
    registration = Registration(SERVICE, servicer, assessment_pb2_grpc.add_AssessmentServiceServicer_to_server)
    async with (
        serving(registration) as process,
        AssessmentClient(address(process), deadline_s=deadline_s) as client,
    ):
        yield client


@pytest.mark.parametrize("kind", list(kinds()))
async def test_every_error_comes_back_as_the_same_error(kind: type[BoneageError]) -> None:
    """Class, field and reason of each error of the tree survive the wire."""
    error = kind("it is so", field="radiograph.dicom")
    async with client_of(ScriptedAssessment(*[error] * 3)) as client:
        with pytest.raises(BoneageError) as caught:
            await client.assess(REQUEST)
    assert type(caught.value) is kind
    assert (caught.value.reason, caught.value.field) == ("it is so", "radiograph.dicom")


async def test_unavailable_is_tried_again_even_with_a_large_radiograph() -> None:
    """The third attempt is answered; what is sent is larger than gRPC would buffer for a retry by itself."""
    large = assessment_pb2.AssessRequest()
    large.radiograph.encoded = bytes(3 * 2**20)
    servicer = ScriptedAssessment(*[ModelUnavailableError("not yet")] * 2)
    async with client_of(servicer) as client:
        assert (await client.assess(large)).release == "scripted"
    assert servicer.calls == 3


async def test_attempts_are_bounded() -> None:
    """After three attempts the error is the caller's."""
    servicer = ScriptedAssessment(*[ModelUnavailableError("not today")] * 10)
    async with client_of(servicer) as client:
        with pytest.raises(ModelUnavailableError, match="not today"):
            await client.assess(REQUEST)
    assert servicer.calls == 3


async def test_nobody_there_is_an_error_of_ours() -> None:
    """A port where nothing listens is ModelUnavailableError, in a time that has a bound."""
    async with AssessmentClient("127.0.0.1:1", deadline_s=5) as client:
        with pytest.raises(ModelUnavailableError):
            await client.assess(REQUEST)


async def test_deadline_reaches_the_server() -> None:
    """The client gives up on time, and the server stops working on it."""
    servicer = ScriptedAssessment()
    async with client_of(servicer, deadline_s=0.2) as client:
        with pytest.raises(DeadlineExceededError):
            await client.assess(assessment_pb2.AssessRequest(release="slow"))
        await asyncio.wait_for(servicer.cancelled.wait(), 5)


async def test_aged_connection_is_renewed_without_a_failed_call() -> None:
    """The server closes connections as they age; no call notices."""
    servicer = ScriptedAssessment()
    registration = Registration(SERVICE, servicer, assessment_pb2_grpc.add_AssessmentServiceServicer_to_server)
    async with (
        serving(registration, connection_age_s=0.2) as process,
        AssessmentClient(address(process)) as client,
        asyncio.timeout(30),
    ):
        while len(servicer.peers) < 3:
            await client.assess(REQUEST)


async def test_calls_go_to_all_servers_and_past_one_that_stops() -> None:
    """Behind one name, each server gets calls; when one ends, the other goes on alone and no call fails."""
    first, second = ScriptedAssessment(), ScriptedAssessment()
    add = assessment_pb2_grpc.add_AssessmentServiceServicer_to_server
    async with (
        serving(Registration(SERVICE, first, add)) as lasting,
        serving(Registration(SERVICE, second, add), drain_delay_s=0.1) as ending,
        AssessmentClient(f"ipv4:{address(lasting)},{address(ending)}") as client,
        asyncio.timeout(30),
    ):
        while not (first.calls and second.calls):
            await client.assess(REQUEST)
        ending.stop()
        alone = first.calls + second.calls + 100
        while first.calls < alone:
            await client.assess(REQUEST)


class HeldSegmentation(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Never answers."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.deadline_s = 0.0

    async def Segment(  # noqa: N802 -- the name is the protocol's
        self, request: segmentation_pb2.SegmentRequest, context: Context
    ) -> segmentation_pb2.SegmentResponse:
        """Hold until the caller goes away."""
        self.deadline_s = context.time_remaining()
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return segmentation_pb2.SegmentResponse(release=request.release)


class CountingEnhancement(enhancement_pb2_grpc.EnhancementServiceServicer):
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def Enhance(  # noqa: N802 -- the name is the protocol's
        self, request: enhancement_pb2.EnhanceRequest, context: Context
    ) -> enhancement_pb2.EnhanceResponse:
        """Count one."""
        self.calls += 1
        return enhancement_pb2.EnhanceResponse(release=request.release)


@asynccontextmanager
async def held_chain(
    segmentation: HeldSegmentation, enhancement: CountingEnhancement, repository: Path
) -> AsyncIterator[Process]:
    """An assessment whose first stage holds every call."""
    add_segmentation = segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server
    add_enhancement = enhancement_pb2_grpc.add_EnhancementServiceServicer_to_server
    async with AsyncExitStack() as stack:
        stages = {
            "segmentation": serving(Registration("boneage.v1.SegmentationService", segmentation, add_segmentation)),
            "enhancement": serving(Registration("boneage.v1.EnhancementService", enhancement, add_enhancement)),
            "regression": running("regression", model_repository=repository),
            "cam": running("cam", model_repository=repository),
        }
        addresses = {
            f"{name}_address": address(await stack.enter_async_context(stage)) for name, stage in stages.items()
        }
        yield await stack.enter_async_context(running("assessment", **addresses))


async def test_cancelled_call_cancels_its_stage_and_starts_no_other(tmp_path: Path) -> None:
    """When the caller goes away, the stage that works for it is told, and the next one never hears of it."""
    segmentation, enhancement = HeldSegmentation(), CountingEnhancement()
    async with (
        held_chain(segmentation, enhancement, write_repository(tmp_path)) as process,
        AssessmentClient(address(process)) as client,
    ):
        call = asyncio.ensure_future(client.assess(REQUEST))
        await segmentation.entered.wait()
        call.cancel()
        await asyncio.wait_for(segmentation.cancelled.wait(), 5)
    assert enhancement.calls == 0


async def test_stage_gets_its_deadline_from_the_caller(tmp_path: Path) -> None:
    """The time that the client has left is what the stage has."""
    segmentation = HeldSegmentation()
    async with (
        held_chain(segmentation, CountingEnhancement(), write_repository(tmp_path)) as process,
        AssessmentClient(address(process), deadline_s=0.7) as client,
    ):
        with pytest.raises(DeadlineExceededError):
            await client.assess(REQUEST)
    assert 0 < segmentation.deadline_s <= 0.75  # clocks of two layers differ by a tick


async def test_assessment_follows_the_health_of_its_stages(tmp_path: Path) -> None:
    """It stops serving when a stage stays away."""
    repository = write_repository(tmp_path)
    async with AsyncExitStack() as stack:
        stages = [
            await stack.enter_async_context(running(name, model_repository=repository))
            for name in ("enhancement", "regression", "cam")
        ]
        names = ("enhancement", "regression", "cam")
        addresses = {f"{name}_address": address(stage) for name, stage in zip(names, stages, strict=True)}
        async with running("segmentation", model_repository=repository) as segmentation:
            process = await stack.enter_async_context(
                running("assessment", segmentation_address=address(segmentation), **addresses)
            )
            assert process.health.serving
        await asyncio.wait_for(process.health.until(serving=False), 10)
