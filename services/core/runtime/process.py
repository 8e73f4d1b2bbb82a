"""The life of one service process: open the ports, load, say ready, answer until told to stop, drain, close."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import cv2
import structlog

from services.core.errors import BoneageError, ConfigurationError
from services.core.runtime.admission import Admission
from services.core.runtime.health import Health
from services.core.runtime.logs import configure_logs, where
from services.core.runtime.probes import Probes
from services.core.runtime.server import Registration, create_server, listen
from services.core.runtime.settings import ServerSettings, read_settings
from services.core.runtime.telemetry import Telemetry
from services.core.runtime.workers import Workers


class Process:
    """What the parts of one service share."""

    def __init__(self, settings: ServerSettings, *, service: str) -> None:
        self.settings = settings
        self.service = service
        self.telemetry = Telemetry()
        self.admission = Admission(settings.maximum_concurrent_calls)
        self.workers = Workers(settings.worker_threads)
        self.health = Health([service])
        self.grpc_port = 0
        self.http_port = 0
        self._stop = asyncio.Event()
        self._log = structlog.get_logger()

    def stop(self) -> None:
        """Begin the end: NOT_SERVING from now on, then drain."""
        self.health.stopping = True
        self._stop.set()

    async def stopped(self) -> None:
        """Wait until the end has begun."""
        await self._stop.wait()

    async def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- the value is the message
        """Say SERVING or NOT_SERVING; the first time that it serves, tell the ports to whoever waits for the file."""
        first = ready and not self.health.started
        await self.health.set_serving(serving=ready)
        if not (first and self.health.serving):
            return
        if self.settings.ready_file is not None:
            write_ready_file(self.settings.ready_file, grpc_port=self.grpc_port, http_port=self.http_port)
        self._log.info("ready", service=self.service, grpc_port=self.grpc_port, http_port=self.http_port)

    @asynccontextmanager
    async def serving(self, *registrations: Registration) -> AsyncIterator[None]:
        """Both ports open, NOT_SERVING yet; at the end calls in flight get `drain_grace_s` to finish."""
        probes = Probes(self.health, self.telemetry)
        server = create_server(
            self.settings, registrations, health=self.health, telemetry=self.telemetry, admission=self.admission
        )
        self.grpc_port = listen(server, self.settings)
        try:
            self.http_port = await probes.start(self.settings.host, self.settings.http_port)
        except OSError as error:
            reason = f"cannot listen on {self.settings.host}:{self.settings.http_port}"
            raise ConfigurationError(reason, field="BONEAGE_HTTP_PORT") from error
        await server.start()
        try:
            yield
        finally:
            await self.health.stop()
            await asyncio.sleep(self.settings.drain_delay_s)
            await self.health.close()
            await server.stop(self.settings.drain_grace_s)
            await probes.close()
            self.workers.close()
            self._log.info("stopped", service=self.service)


Kind = TypeVar("Kind", bound=ServerSettings)


def run_process(service: str, kind: type[Kind], serve: Callable[[Process, Kind], Awaitable[None]]) -> None:
    """Read the settings and run `serve` until a signal; an error of ours is one line of log and exit status 1."""
    cv2.setNumThreads(1)  # its calls already run on several worker threads
    configure_logs("info")
    try:
        settings = read_settings(kind)
        configure_logs(settings.log_level)
        asyncio.run(_run(service, settings, serve))
    except BoneageError as error:
        _end(service, error)
    except BaseExceptionGroup as group:
        _end(service, _first(group))


def _first(error: BaseException) -> BaseException:
    """The first of what several tasks have raised."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _end(service: str, error: BaseException) -> NoReturn:
    """One line of log: the reason of an error of ours, of any other only what it is and where."""
    told = {"reason": str(error)} if isinstance(error, BoneageError) else {"where": where(error)}
    structlog.get_logger().error("cannot serve", service=service, error=type(error).__name__, **told)
    sys.exit(1)


async def _run(service: str, settings: Kind, serve: Callable[[Process, Kind], Awaitable[None]]) -> None:
    process = Process(settings, service=service)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    if settings.stop_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end_of_input, process)
    await serve(process, settings)


def _stop_at_end_of_input(process: Process) -> None:
    """What is written to standard input means nothing; that it has ended means that our parent has."""
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        process.stop()


def write_ready_file(path: Path, *, grpc_port: int, http_port: int) -> None:
    """Write both ports as JSON, so that a reader finds all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps({"grpc_port": grpc_port, "http_port": http_port}))
    partial.replace(path)
