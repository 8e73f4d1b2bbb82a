"""`deploy/compose.yaml` on a real Docker: from nothing to an answer, and to a release that is moved."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.containers import docker, image, plan
from tests.ports import free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SAMPLE = str(ROOT / "deploy" / "samples" / "phantom-01.dcm")
PATIENCE_S = 240


def compose_command():
    """Docker's plugin, or the program of its own that came before it; the test is skipped where there is neither."""
    plugin = [plan().docker, "compose"]
    if subprocess.run([*plugin, "version"], check=False, capture_output=True).returncode == 0:
        return plugin
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return pytest.skip("needs docker compose: Debian's package docker-compose, or Docker's compose plugin")


@dataclass(frozen=True, slots=True)
class Compose:
    """A project of its own on this host."""

    command: list[str]
    port: int

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """What one command says; the test fails where it fails, unless that is wanted."""
        told = {"REGISTRY": plan().registry, "TAG": plan().version, "PORT": str(self.port)}
        done = subprocess.run(
            [*self.command, *arguments], cwd=ROOT, env=os.environ | told, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout + done.stderr

    def healthy(self, *names: str) -> bool:
        """Whether Docker's checks of these services pass."""
        ids = [self("ps", "--quiet", name).strip() for name in names]
        return docker("inspect", "--format", "{{.State.Health.Status}}", *ids).split() == ["healthy"] * len(names)


@pytest.fixture
def compose():
    """One that is removed with its volumes at the end."""
    for name in ("serving", "release"):
        image(name)
    command = [*compose_command(), "--file", "deploy/compose.yaml", "--project-name", f"test-{secrets.token_hex(4)}"]
    project = Compose(command, free_port())
    yield project
    project("--profile", "operator", "down", "--volumes", "--timeout", "30")


async def test_one_host_answers_and_its_releases_are_moved(compose):
    """Seeded with the embedded release, which answers at the published port; the operator's token is taken."""
    compose("up", "--detach")
    await until(lambda: compose.healthy("assessment", "release"), timeout_s=PATIENCE_S)
    assert (release := assessed_by(compose.port))
    assert release in compose("run", "--rm", "operator", "list")
    refused = compose("run", "--rm", "operator", "rollback", "--reason", "a test", check=False)
    assert "there is no release before the current one" in refused


def assessed_by(port):
    """The release that reads a sample."""
    command = [sys.executable, "-m", "services.cli", "assess", "--json", "--server", f"localhost:{port}", SAMPLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["release"]
