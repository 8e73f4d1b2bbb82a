"""Stands in for a Kubernetes API server where there is none: Leases alone, with the versions that writers must know."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from tests.ports import LOOPBACK

PREFIX = "/apis/coordination.k8s.io/v1/namespaces/"
Lease = dict[str, Any]


class LeaseApi:
    """Leases by namespace and name; `before_write` is called before each write, `refusal` is answered to all."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.before_write: Callable[[], None] = lambda: None
        self.refusal = 0
        self.port = 0
        self._versions = count(1)
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: Lease) -> tuple[int, Lease]:
        """Status and body."""
        if self.refusal:
            return self.refusal, {}
        namespace, _, name = path.removeprefix(PREFIX).partition("/leases")
        place = f"{namespace}/{name.strip('/') or body['metadata']['name']}"
        if method == "GET":
            return (200, self.leases[place]) if place in self.leases else (404, {})
        self.before_write()
        with self._lock:
            return self.write(method, place, body)

    def write(self, method: str, place: str, body: Lease) -> tuple[int, Lease]:
        """Compare the version, then write."""
        there = self.leases.get(place)
        known = body["metadata"].get("resourceVersion")
        if (method == "POST") == bool(there) or (there and known != there["metadata"]["resourceVersion"]):
            return 409, {}
        self.leases[place] = {
            **body, "metadata": {**body["metadata"], "resourceVersion": str(next(self._versions))},
        }  # fmt: skip
        return 200, self.leases[place]


def _handler(api: LeaseApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, answer = api.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 -- the names are the library's

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler


@contextmanager
def running_lease_api() -> Iterator[LeaseApi]:
    """The server on a free port, while the context lasts."""
    api = LeaseApi()
    with ThreadingHTTPServer((LOOPBACK, 0), _handler(api)) as server:
        server.daemon_threads = True
        api.port = server.server_port
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        yield api
        server.shutdown()
        serving.join()
