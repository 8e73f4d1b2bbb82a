"""Containers of the images that `make images` built, confined as a cluster does it: no right, no network, no disk."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from deploy.images import Plan

CONFINED = (
    "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
)  # fmt: skip
HTTP_PORT = 9100
# Sockets alone: to import an HTTP client would take longer than most answers.
STATUS = """
import socket
try:
    with socket.create_connection(("127.0.0.1", {port}), timeout=5) as probe:
        probe.sendall(b"GET {path} HTTP/1.0\\r\\n\\r\\n")
        print(probe.recv(100).split()[1].decode())
except OSError as error:
    print(error)
"""


@cache
def plan() -> Plan:
    """The names of the images; the test is skipped where there is no Docker."""
    planned = Plan.read()
    try:
        subprocess.run([planned.docker, "version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs Docker (Debian's docker.io): DOCKER=PATH names it where it is not the first on the PATH")
    return planned


def docker(*arguments: str, content: str | None = None) -> str:
    """What docker prints; the test fails with its last words where it fails."""
    command, environment = [plan().docker, *arguments], {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(
        command, env=environment, input=content, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        pytest.fail(
            f"docker {' '.join(arguments)[:300]}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout.strip()


def image(name: str) -> str:
    """The full name of an image that is there; the test is skipped where it is not."""
    tag = plan().tag(name)
    if subprocess.run([plan().docker, "image", "inspect", tag], check=False, capture_output=True).returncode:
        pytest.skip(f"needs {tag}: make images IMAGES_WANTED={name}")
    return tag


def inspected(name: str) -> dict[str, Any]:
    """What docker knows of an image."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", image(name)))[0]
    return found


def output(name: str, *command: str, content: str | None = None) -> str:
    """What a command prints in a confined container."""
    return docker("run", "--rm", "--interactive", *CONFINED, image(name), *command, content=content)


@dataclass(frozen=True, slots=True)
class Container:
    """One that runs."""

    id: str

    def python(self, program: str) -> str:
        """What a program prints in it."""
        return docker("exec", self.id, "python", "-c", program)

    def status(self, path: str, port: int = HTTP_PORT) -> str:
        """What its HTTP server answers, or why it does not; the test fails with its last words where it has ended."""
        command = [plan().docker, "exec", self.id, "python", "-c", STATUS.format(port=port, path=path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if self.exit_code is not None:
            logs = subprocess.run([plan().docker, "logs", self.id], capture_output=True, text=True, check=False)
            pytest.fail(f"the container has ended with {self.exit_code}:\n{logs.stdout[-2000:]}{logs.stderr[-2000:]}")
        return done.stdout.strip()

    def stop(self) -> None:
        """Ask its process to end, as a cluster does."""
        docker("stop", self.id)

    @property
    def exit_code(self) -> int | None:
        """How it ended; none while it runs, or is about to run again."""
        state = json.loads(docker("container", "inspect", self.id))[0]["State"]
        return None if state["Running"] or state["Restarting"] else state["ExitCode"]


@contextmanager
def running(
    name: str, *command: str, environment: Mapping[str, str] | None = None, options: tuple[str, ...] = ()
) -> Iterator[Container]:
    """A confined container, while the context lasts."""
    told = [word for key, value in (environment or {}).items() for word in ("--env", f"{key}={value}")]
    container = Container(docker("run", "--detach", *CONFINED, *told, *options, image(name), *command))
    try:
        yield container
    finally:
        docker("rm", "--force", container.id)
