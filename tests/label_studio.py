"""A real Label Studio on a free port, started for tests, with nothing that calls home."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PATIENCE_S = 180
POLL_S = 0.5


@dataclass(frozen=True)
class Server:
    """Where it listens."""

    url: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What a browser would send, and the decoded answer."""
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def label_studio_command() -> Path:
    """Where it is installed, apart from this project's packages; the test is skipped where it is not."""
    command = Path(os.environ.get("LABEL_STUDIO") or ".venv-label-studio/bin/label-studio")
    if not command.exists():
        pytest.skip("needs Label Studio in an environment of its own: make label-studio")
    return command


@contextmanager
def label_studio(folder: Path) -> Iterator[Server]:
    """A server with one user whose token is TOKEN, gone with its data at the end."""
    command, port = label_studio_command(), free_port()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    }  # fmt: skip
    arguments = ["start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1", "--username",
                 "reader@example.org", "--password", "not-a-secret-9", "--user-token", TOKEN]  # fmt: skip
    log = folder / "label-studio.log"
    with log.open("wb") as out:
        process = subprocess.Popen([command, *arguments], env=environment, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(url):
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Label Studio did not start:\n{log.read_text()[-2000:]}")
        yield Server(url)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
