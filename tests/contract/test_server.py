"""The server that every service shares, over real sockets: health, reflection, metrics, limits, deadlines, TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from boneage.v1 import segmentation_pb2, segmentation_pb2_grpc
from services.client import Tls, connect
from services.core.adapters.imaging import Limits
from services.core.domain.contracts import SEGMENTER
from services.core.domain.ports import Inference, Tensors
from services.core.domain.release import Release
from services.core.errors import DeadlineExceededError, ImageTooLargeError, OverloadedError
from services.core.runtime.models import LoadingInference
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from services.core.runtime.workers import Workers
from services.segmentation.pipeline import SegmentationPipeline
from services.segmentation.servicer import SERVICE, SegmentationServicer
from tests.models import hand_picture, tiny_release, write_repository
from tests.serving import (
    Certificates,
    HeldInference,
    address,
    as_raw,
    channel_to,
    http,
    make_certificates,
    refused,
    running,
    serving,
    settings,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = segmentation_pb2.SegmentRequest(radiograph=as_raw(hand_picture()))


class OneRelease:
    """Releases with only the tiny one."""

    def get(self, release_id: str = "") -> Release:
        """That one, whatever is asked for."""
        return tiny_release(release_id or "tiny-1")


def segmentation(inference: Inference) -> Registration:
    """The segmentation servicer over any inference."""
    workers = Workers(1)
    servicer = SegmentationServicer(SegmentationPipeline(inference, workers), OneRelease(), workers, Limits())
    return Registration(SERVICE, servicer, segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server)


def stub_of(channel: grpc.aio.Channel) -> "segmentation_pb2_grpc.SegmentationServiceAsyncStub":
    """A client of the segmentation."""
    return segmentation_pb2_grpc.SegmentationServiceStub(channel)


async def status(channel: grpc.aio.Channel, service: str = "") -> int:
    """What the standard health service says."""
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return int(reply.status)


@asynccontextmanager
async def loading(inference: LoadingInference) -> AsyncIterator[Process]:
    """A process whose ports are open and whose model is not loaded yet."""
    process = Process(settings(), service=SERVICE)
    async with process.serving(segmentation(inference)):
        yield process


async def test_not_serving_until_the_model_is_there() -> None:
    """Health, the probes and the calls themselves agree before the model is loaded and after."""
    inference = LoadingInference([SEGMENTER])
    async with loading(inference) as process, channel_to(process) as channel:
        assert await status(channel) == await status(channel, SERVICE) == NOT_SERVING
        assert [(await http(process, path))[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 503, 503]
        with pytest.raises(grpc.aio.AioRpcError, match="still being loaded") as caught:
            await stub_of(channel).Segment(REQUEST)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        held = HeldInference()
        held.released.set()
        inference.use(held)
        await process.set_ready(ready=True)
        assert await status(channel) == await status(channel, SERVICE) == SERVING
        assert [(await http(process, path))[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 200, 200]
        await stub_of(channel).Segment(REQUEST)


async def test_watch_tells_every_change_and_ends_with_the_server() -> None:
    """A watcher sees NOT_SERVING, SERVING and NOT_SERVING again, and does not keep the server from ending."""
    seen = []
    async with loading(LoadingInference([SEGMENTER])) as process:
        channel = channel_to(process)
        watch = aiter(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE)))
        seen.append((await anext(watch)).status)
        await process.set_ready(ready=True)
        seen.append((await anext(watch)).status)
    seen += [reply.status async for reply in watch]
    await channel.close(None)
    assert seen == [NOT_SERVING, SERVING, NOT_SERVING]


async def test_unknown_name_has_no_health() -> None:
    """Check says NOT_FOUND for a service that is not here, Watch says SERVICE_UNKNOWN."""
    async with loading(LoadingInference([SEGMENTER])) as process, channel_to(process) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(channel, "boneage.v1.Nothing")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="boneage.v1.Nothing"))
        assert (await anext(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_call_in_flight_is_answered_after_the_stop() -> None:
    """From the stop on it is NOT_SERVING at once, and whoever was let in before still gets the answer."""
    held = HeldInference()
    async with serving(segmentation(held), drain_delay_s=0.2) as process, channel_to(process) as channel:
        call = asyncio.ensure_future(stub_of(channel).Segment(REQUEST))
        await held.entered.wait()
        process.stop()
        await process.stopped()
        assert await status(channel) == NOT_SERVING
        held.released.set()
        assert (await call).release == "tiny-1"


async def test_stopping_process_never_says_serving() -> None:
    """A model that is loaded only after the stop changes nothing."""
    async with loading(LoadingInference([SEGMENTER])) as process, channel_to(process) as channel:
        process.stop()
        await process.set_ready(ready=True)
        assert await status(channel) == NOT_SERVING


async def test_one_call_too_many_is_refused_at_once() -> None:
    """With every place taken the next call gets RESOURCE_EXHAUSTED with a time to come back, the first its answer."""
    held = HeldInference()
    async with (
        serving(segmentation(held), maximum_concurrent_calls=1) as process,
        channel_to(process) as channel,
    ):
        first = asyncio.ensure_future(stub_of(channel).Segment(REQUEST))
        await held.entered.wait()
        with refused(OverloadedError, reason="all 1 places are taken"):
            await stub_of(channel).Segment(REQUEST)
        assert await status(channel) == SERVING
        held.released.set()
        await first
        await stub_of(channel).Segment(REQUEST)


async def test_deadline_ends_the_work() -> None:
    """A call whose time is up ends with DEADLINE_EXCEEDED and gives its place back."""
    held = HeldInference()
    async with (
        serving(segmentation(held), maximum_concurrent_calls=1) as process,
        channel_to(process) as channel,
    ):
        with refused(DeadlineExceededError, reason="."):
            await stub_of(channel).Segment(REQUEST, timeout=0.1)
        held.released.set()
        await stub_of(channel).Segment(REQUEST)


async def test_message_above_the_limit_is_refused() -> None:
    """The limit on messages holds before anything is decoded."""
    large = segmentation_pb2.SegmentRequest()
    large.radiograph.encoded = bytes(2 * 2**20)
    async with (
        serving(segmentation(HeldInference()), maximum_message_bytes=2**20) as process,
        channel_to(process) as channel,
    ):
        with refused(ImageTooLargeError, reason="larger than max"):
            await stub_of(channel).Segment(large)


class BrokenInference(HeldInference):
    """An Inference with a fault of its own."""

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """Fail with a text that must not reach a client."""
        raise RuntimeError("secret of patient 42")


async def test_unexpected_error_is_internal_logged_once_and_says_nothing() -> None:
    """Neither the client nor the log gets the exception's text, and the server goes on."""
    async with serving(segmentation(BrokenInference())) as process, channel_to(process) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught, capture_logs() as logs:
            await stub_of(channel).Segment(REQUEST)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "patient" not in (caught.value.details() or "")
        assert await status(channel) == SERVING
        assert 'grpc_code="Internal"' in (await http(process, "/metrics"))[1]
    assert [entry["error"] for entry in logs if entry["event"] == "unexpected error"] == ["RuntimeError"]
    assert "patient" not in str(logs)


async def test_reflection_lists_the_services() -> None:
    """Tools find what a server answers without our proto files."""
    async with serving(segmentation(HeldInference())) as process, channel_to(process) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        replies = [reply async for reply in stub.ServerReflectionInfo(iter([asked]))]
        names = {service.name for service in replies[0].list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_metrics_count_calls_by_method_and_code(tmp_path: Path) -> None:
    """Names and labels are those that dashboards for go-grpc-prometheus know."""
    async with (
        running("segmentation", model_repository=write_repository(tmp_path)) as process,
        channel_to(process) as channel,
    ):
        await stub_of(channel).Segment(REQUEST)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub_of(channel).Segment(segmentation_pb2.SegmentRequest())
        _, metrics = await http(process, "/metrics")
    labels = f'grpc_method="Segment",grpc_service="{SERVICE}",grpc_type="unary"'
    assert f'grpc_server_handled_total{{grpc_code="OK",{labels}}} 1.0' in metrics
    assert f'grpc_server_handled_total{{grpc_code="InvalidArgument",{labels}}} 1.0' in metrics
    assert f"grpc_server_started_total{{{labels}}} 2.0" in metrics
    assert f"grpc_server_handling_seconds_count{{{labels}}} 2.0" in metrics
    assert "process_resident_memory_bytes" in metrics


@pytest.mark.parametrize(("path", "method", "code"), [("/", "GET", 404), ("/metrics", "POST", 405)])
async def test_probes_answer_nothing_else(path: str, method: str, code: int) -> None:
    """There is nothing to find or to change on the probes' port."""
    async with loading(LoadingInference([SEGMENTER])) as process:
        assert (await http(process, path, method=method))[0] == code


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority with a certificate for this machine."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls_settings(own: Certificates, *, mutual: bool = False) -> dict[str, Path]:
    """Settings of a server with TLS, mutual where asked for."""
    return {
        "tls_certificate_file": own.certificate,
        "tls_key_file": own.key,
        **({"tls_client_ca_file": own.ca} if mutual else {}),
    }


async def test_tls_is_spoken_where_there_is_a_certificate(certificates: Certificates) -> None:
    """A client that knows the authority is answered, one that speaks in the clear is not."""
    async with serving(segmentation(HeldInference()), **tls_settings(certificates)) as process:
        async with connect(address(process), SERVICE, tls=Tls(certificates.ca)) as channel:
            assert await status(channel) == SERVING
        async with channel_to(process) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await status(channel)


async def test_mutual_tls_asks_for_a_certificate(certificates: Certificates) -> None:
    """Where clients' authorities are given, only a client with a certificate is answered."""
    async with serving(segmentation(HeldInference()), **tls_settings(certificates, mutual=True)) as process:
        own = Tls(certificates.ca, certificates.certificate, certificates.key)
        async with connect(address(process), SERVICE, tls=own) as channel:
            assert await status(channel) == SERVING
        async with connect(address(process), SERVICE, tls=Tls(certificates.ca), attempts=1) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await status(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
