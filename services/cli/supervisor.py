"""Starts the services as child processes of one process group, waits until they are ready, and stops them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TextIO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.client import Tls, open_channel
from services.core.runtime.cores import available_cores

ServiceName = Literal["segmentation", "enhancement", "regression", "cam", "assessment", "release"]
ASSESSMENT: Final = "assessment"
MODEL_SERVICES: Final[tuple[ServiceName, ...]] = ("segmentation", "enhancement", "regression", "cam")
LOOPBACK: Final = "127.0.0.1"
TLS_KEYS: Final = ("BONEAGE_TLS_", "BONEAGE_STAGE_TLS_")

READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 25.0
POLL_S: Final = 0.05
KEPT_LINES: Final = 20


class ServiceStartError(Exception):
    """A service ended or was not ready in time; the text holds its last lines."""


def thread_budget(cores: int) -> dict[str, int]:
    """ONNX threads of each model service: all cores for the segmenter, one for each of the others.

    The segmenter takes nine tenths of a radiograph's computing (0.32 of 0.36 s on one core), one radiograph at a time;
    threads do not spin, so that those of the others find a core in the meantime.
    """
    return {name: cores if name == "segmentation" else 1 for name in MODEL_SERVICES}


@dataclass(slots=True)
class Child:
    """One service process, with the last lines that it wrote."""

    name: str
    process: asyncio.subprocess.Process
    ready_file: Path
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    reader: asyncio.Task[None] | None = None
    grpc_port: int = 0
    http_port: int = 0

    @property
    def address(self) -> str:
        """Where it answers gRPC calls."""
        return f"{LOOPBACK}:{self.grpc_port}"

    @property
    def http_address(self) -> str:
        """Where it answers /metrics, /livez and /readyz."""
        return f"{LOOPBACK}:{self.http_port}"

    def last_words(self) -> str:
        """Its last lines, for an error message."""
        return "\n".join(f"  {line}" for line in self.lines) or "  (it wrote nothing)"


class Supervisor:
    """The services of one process group, with `environment` on top of ours.

    `log` gets their output, line by line, where it is given.
    """

    def __init__(
        self, *, port: int = 0, log: TextIO | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._port = port
        self._environment = {**inherited_environment(), **(environment or {})}
        self._threads = thread_budget(available_cores())
        self._log = log
        self.children: list[Child] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """All services, ready to answer, while the context lasts; gives the assessment's address.

        Raises ServiceStartError where one of them ends early or is not ready within `READY_TIMEOUT_S`.
        """
        with tempfile.TemporaryDirectory(prefix="boneage-") as folder:
            try:
                await self._start_in_time(Path(folder))
                yield next(child.address for child in self.children if child.name == ASSESSMENT)
            finally:
                await self._stop()

    async def first_to_end(self) -> Child:
        """Wait until any service ends."""
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def _start_in_time(self, folder: Path) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._start(folder)
        except TimeoutError:
            raise ServiceStartError(f"the services were not ready within {READY_TIMEOUT_S:.0f} s") from None

    async def _start(self, folder: Path) -> None:
        models = [await self.spawn(name, folder, self.model_environment(name)) for name in MODEL_SERVICES]
        await asyncio.gather(*(wait_until_ready(child) for child in models))
        await self.start_assessment(folder, models)

    async def start_assessment(self, folder: Path, models: Sequence[Child], **told: str) -> None:
        """Start it above the model services, and wait until it is ready."""
        addresses = {f"BONEAGE_{child.name.upper()}_ADDRESS": child.address for child in models}
        port = {"BONEAGE_GRPC_PORT": str(self._port)}
        await wait_until_ready(await self.spawn(ASSESSMENT, folder, {**addresses, **port, **told}))

    def model_environment(self, name: str) -> dict[str, str]:
        """What a model service is told."""
        return {"BONEAGE_GRPC_PORT": "0", "BONEAGE_ONNX_THREADS": str(self._threads[name])}

    async def spawn(self, name: str, folder: Path, environment: Mapping[str, str]) -> Child:
        """Start one process; it is stopped with the others."""
        ready_file = folder / f"{name}.json"
        own = {"BONEAGE_READY_FILE": str(ready_file), "BONEAGE_HOST": LOOPBACK, "BONEAGE_HTTP_PORT": "0"}
        own["BONEAGE_STOP_WITH_STDIN"] = "true"  # we hold the other end, and let go of it even when we are killed
        process = await asyncio.create_subprocess_exec(
            *command_of(name),
            env={**self._environment, **own, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        child = Child(name, process, ready_file)
        child.reader = asyncio.create_task(self._read_lines(child))
        self.children.append(child)
        return child

    async def _read_lines(self, child: Child) -> None:
        assert child.process.stdout is not None
        async for line in child.process.stdout:
            text = line.decode(errors="backslashreplace").rstrip()
            child.lines.append(text)
            if self._log is not None:
                print(text, file=self._log, flush=True)

    async def _stop(self) -> None:
        """Ask the assessment to end first, so that what it is at can still reach the models."""
        first = [child for child in self.children if child.name == ASSESSMENT]
        for group in (first, [child for child in self.children if child not in first]):
            await asyncio.shield(_stop_all(group))


def command_of(name: str) -> list[str]:
    """The command that runs one service."""
    return [sys.executable, "-m", f"services.{name}"]


def inherited_environment() -> dict[str, str]:
    """Our environment without the keys of TLS: services of one group talk over the loopback only."""
    return {key: value for key, value in os.environ.items() if not key.startswith(TLS_KEYS)}


async def is_serving(address: str, *, timeout_s: float, tls: Tls | None = None) -> bool:
    """Whether the server at `address` says that it is serving, by the standard health service."""
    async with open_channel(address, [], tls=tls) as channel:
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def wait_until_ready(child: Child) -> None:
    """Wait until it serves. Raises ServiceStartError where it ends before that."""
    while not child.ready_file.exists():
        await check_alive(child)
        await asyncio.sleep(POLL_S)
    ports = json.loads(child.ready_file.read_text())
    child.grpc_port, child.http_port = ports["grpc_port"], ports["http_port"]
    while not await is_serving(child.address, timeout_s=1.0):
        await check_alive(child)
        await asyncio.sleep(POLL_S)


async def check_alive(child: Child) -> None:
    """Raises ServiceStartError, with its last lines, where it has ended."""
    if child.process.returncode is None:
        return
    if child.reader is not None:
        await child.reader
    raise ServiceStartError(f"{child.name} ended with exit code {child.process.returncode}:\n{child.last_words()}")


async def _stop_all(children: Sequence[Child]) -> None:
    for child in children:
        _signal(child, signal.SIGTERM)
    for child in children:
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.process.wait()
        except TimeoutError:
            _signal(child, signal.SIGKILL)
            await child.process.wait()
        if child.reader is not None:
            await child.reader


def _signal(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.process.send_signal(number)
