"""The small HTTP server beside gRPC: metrics for Prometheus, and probes that mirror the gRPC health."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from services.core.runtime.health import Health
from services.core.runtime.telemetry import Telemetry

REQUEST_TIMEOUT_S: Final = 5.0
GREATEST_REQUEST_BYTES: Final = 8192

Answer = tuple[HTTPStatus, str, bytes]


class Probes:
    """Answers GET on /metrics, /livez, /readyz and /startupz; every connection carries one request."""

    def __init__(self, health: Health, telemetry: Telemetry) -> None:
        self._answers: Mapping[str, Callable[[], Answer]] = {
            "/metrics": lambda: (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", telemetry.exposition()),
            "/livez": lambda: _probe(healthy=True),
            "/readyz": lambda: _probe(healthy=health.serving),
            "/startupz": lambda: _probe(healthy=health.started),
        }
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen there, on a free port for 0, and give the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=GREATEST_REQUEST_BYTES)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or never asked properly: there is no one to answer
        finally:
            writer.close()

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        status, kind, body = self._answer(method, path)
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else body)

    def _answer(self, method: bytes, path: str) -> Answer:
        if method not in {b"GET", b"HEAD"}:
            return _text(HTTPStatus.METHOD_NOT_ALLOWED)
        return self._answers.get(path, lambda: _text(HTTPStatus.NOT_FOUND))()


def _probe(*, healthy: bool) -> Answer:
    return _text(HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE)


def _text(status: HTTPStatus) -> Answer:
    return status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode()
