"""Runs services of this project in the test's own process, over real sockets on free ports."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.v1 import common_pb2
from services.client import calling
from services.core.domain.ports import Tensors
from services.core.errors import BoneageError, DeadlineExceededError
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from services.core.runtime.settings import ServerSettings
from tests.ports import LOOPBACK

MODEL_SERVICES = ("segmentation", "enhancement", "regression", "cam")


def settings(**values: object) -> ServerSettings:
    """Settings of a server on free ports of this machine that stops without waiting for anyone."""
    return ServerSettings(**_local(values))


@asynccontextmanager
async def running(service: str, **values: object) -> AsyncIterator[Process]:
    """The service of that name, wired by its own `__main__`, from SERVING to its end."""
    main = import_module(f"services.{service}.__main__")
    async with _served(main.serve, main.SERVICE, main.Settings(**_local(values))) as process:
        yield process


@asynccontextmanager
async def running_chain(repository: Path, **values: object) -> AsyncIterator[Process]:
    """All five services; gives the assessment's."""
    async with AsyncExitStack() as stack:
        addresses = {
            f"{name}_address": address(await stack.enter_async_context(running(name, model_repository=repository)))
            for name in MODEL_SERVICES
        }
        yield await stack.enter_async_context(running("assessment", **addresses, **values))


@asynccontextmanager
async def serving(registration: Registration, **values: object) -> AsyncIterator[Process]:
    """Any servicer behind this project's server, SERVING."""

    async def serve(process: Process, _: ServerSettings) -> None:
        async with process.serving(registration):
            await process.set_ready(ready=True)
            await process.stopped()

    async with _served(serve, registration.name, settings(**values)) as process:
        yield process


@asynccontextmanager
async def _served(
    serve: Callable[[Process, Any], Awaitable[None]], name: str, chosen: ServerSettings
) -> AsyncIterator[Process]:
    process = Process(chosen, service=name)
    life = asyncio.ensure_future(serve(process, chosen))
    try:
        ready = asyncio.ensure_future(process.health.until(serving=True))
        await asyncio.wait([ready, life], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await life
        yield process
    finally:
        process.stop()
        await life


def address(process: Process) -> str:
    """Where a process answers gRPC calls."""
    return f"{LOOPBACK}:{process.grpc_port}"


def channel_to(process: Process) -> grpc.aio.Channel:
    """A bare channel, without the client library's retries and balancing."""
    return grpc.aio.insecure_channel(address(process), [("grpc.max_receive_message_length", 64 * 2**20)])


@contextmanager
def refused(kind: type[BoneageError], *, field: str = "", reason: str = "") -> Iterator[None]:
    """Expects a call to end with exactly this error, as the client library gives it, at `field` and for `reason`."""
    with pytest.raises(BoneageError, match=reason or None) as caught, calling():
        yield
    assert type(caught.value) is kind
    assert caught.value.field == field


async def http(process: Process, path: str, *, method: str = "GET") -> tuple[int, str]:
    """Status and body of a request to the probes' port."""
    reader, writer = await asyncio.open_connection(LOOPBACK, process.http_port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body.decode()


def as_raw(image: NDArray[np.float32]) -> common_pb2.Radiograph:
    """(H, W) grey levels as float32 pixels."""
    size = common_pb2.PixelSize(height=image.shape[0], width=image.shape[1])
    data = image.astype("<f4").tobytes()
    return common_pb2.Radiograph(raw=common_pb2.RawPixels(size=size, format=common_pb2.PIXEL_FORMAT_FLOAT32, data=data))


def as_png(image: NDArray[np.float32]) -> common_pb2.Radiograph:
    """(H, W) grey levels as an 8-bit PNG file."""
    return common_pb2.Radiograph(encoded=encode_png(np.rint(image * 255).astype(np.uint8)))


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A PNG file."""
    return cv2.imencode(".png", image)[1].tobytes()


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Pixels of a PNG file, as they are."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


class HeldInference:
    """An Inference that holds every call until it is released or its time is up."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.released = asyncio.Event()

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """Hold, then give what the model was asked with as its answer."""
        self.entered.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self.released.wait()
        except TimeoutError:
            raise DeadlineExceededError(f"no time left for {model} {version}") from None
        return {"hand_probability": inputs["radiograph"]}

    async def ready(self, model: str, version: int) -> bool:
        """Always: it is the caller who waits."""
        return bool(model and version)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of an authority, and of a certificate for this machine with its key."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """A fresh authority with one certificate, for servers and clients on this machine."""
    ca, ca_key, request = folder / "ca.pem", folder / "ca.key", folder / "request.pem"
    own = Certificates(ca, folder / "own.pem", folder / "own.key")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=test authority", "-days", "2")
    _openssl("req", *key, "-keyout", own.key, "-out", request, "-subj", "/CN=localhost")
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signed = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extensions, "-days", "2")
    _openssl("x509", "-req", "-in", request, *signed, "-out", own.certificate)
    return own


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def child_environment(**values: object) -> dict[str, str]:
    """The environment of a service in a process of its own, on free ports, with `BONEAGE_*` as given and no other."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("BONEAGE_")}
    told = {"GRPC_PORT": 0, "HTTP_PORT": 0, **values}
    return own | {"PYTHONPATH": os.pathsep.join(sys.path)} | {f"BONEAGE_{k}": str(v) for k, v in told.items()}


def _local(values: dict[str, object]) -> dict[str, Any]:
    return {"grpc_port": 0, "http_port": 0, "drain_grace_s": 2.0, **values}
