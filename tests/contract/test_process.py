"""A service as a process of its own: ready file, SIGTERM, and an end with a reason where it cannot serve."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.models import write_repository
from tests.serving import child_environment

PATIENCE_S = 60


def last_line(service: str, **values: object) -> tuple[int, dict[str, str]]:
    """Exit status and last line of log of a service that ends by itself."""
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env=child_environment(**values),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, json.loads(ended.stderr.splitlines()[-1])


def test_ready_file_tells_the_ports_and_sigterm_ends_cleanly(tmp_path: Path) -> None:
    """The file is there once it is ready; after SIGTERM the process ends with status 0 and the ports are closed."""
    ready = tmp_path / "ready"
    values = {"MODEL_REPOSITORY": write_repository(tmp_path / "models"), "READY_FILE": ready}
    with subprocess.Popen(
        [sys.executable, "-m", "services.regression"],
        env=child_environment(**values),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "ready"
        ports = json.loads(ready.read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['http_port']}/readyz") as reply:
            assert reply.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert json.loads(process.stderr.read().splitlines()[-1])["event"] == "stopped"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{ports['http_port']}/readyz")


def test_services_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Closing the pipe is all that a killed parent can do; the service drains and ends with status 0."""
    values = {"MODEL_REPOSITORY": write_repository(tmp_path / "models"), "STOP_WITH_STDIN": True}
    with subprocess.Popen(
        [sys.executable, "-m", "services.regression"],
        env=child_environment(**values),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        assert json.loads(process.stderr.readline())["event"] == "ready"
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("service", "values", "reason"),
    [
        ("segmentation", {"MODLE_REPOSITORY": "models"}, "BONEAGE_MODLE_REPOSITORY: no such setting"),
        ("segmentation", {"GRPC_PORT": "many"}, "BONEAGE_GRPC_PORT: "),
        ("assessment", {}, "BONEAGE_SEGMENTATION_ADDRESS: field required"),
        ("regression", {"MODEL_REPOSITORY": "/nowhere"}, "releases/current"),
    ],
)
def test_what_cannot_serve_ends_with_one_line_that_says_why(service: str, values: dict[str, str], reason: str) -> None:
    """Exit status 1 and the reason, without a traceback."""
    status, line = last_line(service, **values)
    assert status == 1
    assert line["event"] == "cannot serve"
    assert reason in line["reason"]


def test_taken_port_is_named(tmp_path: Path) -> None:
    """Two servers never share a port by accident."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, line = last_line("cam", GRPC_PORT=port, MODEL_REPOSITORY=write_repository(tmp_path))
    assert status == 1
    assert f"BONEAGE_GRPC_PORT: cannot listen on 127.0.0.1:{port}" in line["reason"]
