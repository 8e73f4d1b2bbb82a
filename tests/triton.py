"""Real Tritons on free ports of this machine, started for tests, with a model repository and the key that guards it."""

import asyncio
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.core.adapters.inference_triton import TritonInference
from services.core.adapters.triton_config import config_json
from services.core.domain.contracts import CONTRACTS
from tests.ports import LOOPBACK, free_port

KEY = "key-of-the-tests"
HEADERS = {"triton-grpc-protocol-admin-key": KEY}
PATIENCE_S = 60
POLL_S = 0.05
SHARED_MEMORY = Path("/dev/shm")


def triton_command() -> Path:
    """Where it is installed, apart from this project's packages; the test is skipped where it is not."""
    command = Path(os.environ.get("TEST_TRITON") or ".venv-triton/triton") / "tritonserver"
    if not command.exists():
        pytest.skip("needs NVIDIA Triton in an environment of its own: make triton")
    return command.resolve()


class Triton:
    """One server, which keeps its ports when it is started again; it begins with nothing loaded."""

    def __init__(self, repository: Path, log: Path, *, host: str = LOOPBACK, grpc_port: int = 0) -> None:
        self.repository, self.host = repository, host
        self.grpc_port, self.metrics_port = grpc_port or free_port(), free_port()
        self._command = triton_command()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers gRPC calls."""
        return f"{self.host}:{self.grpc_port}"

    def start(self) -> None:
        """Start it and wait until it is alive."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._command, *self._arguments()], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_live():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Triton did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Ask it to end, as a cluster does, and wait until it has."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """End it and the processes of its models in an instant, as a kernel that is out of memory does."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process = None
        for left in SHARED_MEMORY.glob(f"{self._prefix}*"):
            left.unlink(missing_ok=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections and does nothing at all, while the context lasts."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def is_live(self) -> bool:
        """Whether it answers at all."""
        with suppress(InferenceServerException), self._client() as client:
            return bool(client.is_server_live(client_timeout=2))
        return False

    def states(self, model: str) -> list[str]:
        """What each version of a model is at, of those that are or were loaded: READY, LOADING, UNLOADING, ..."""
        with self._client() as client:
            index = client.get_model_repository_index(HEADERS)
        return sorted(entry.state for entry in index.models if entry.name == model and entry.state != "UNAVAILABLE")

    def processes(self) -> list[psutil.Process]:
        """Its own process and those of its models."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def has_ready(self, versions: Mapping[str, int]) -> bool:
        """Whether it answers for this version of each of these models."""
        with suppress(InferenceServerException), self._client() as client:
            return all(client.is_model_ready(name, str(number), client_timeout=2) for name, number in versions.items())
        return False

    def load(self, model: str, *versions: int) -> None:
        """Have exactly these versions of a model served; they are ready when this returns."""
        with self._client() as client:
            client.load_model(model, headers=HEADERS, config=config_json(CONTRACTS[model], versions=versions))

    def count(self, metric: str, model: str, version: int | None = None) -> int:
        """The sum of the counter `nv_inference_METRIC` over a model's versions, or that of one version."""
        url = f"http://{LOOPBACK}:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'model="{model}"', "" if version is None else f'version="{version}"']
        found = [
            line for line in lines if line.startswith(f"nv_inference_{metric}{{") and all(w in line for w in wanted)
        ]
        return sum(round(float(line.rsplit(maxsplit=1)[1])) for line in found)

    def _client(self) -> InferenceServerClient:
        return InferenceServerClient(self.address)

    @property
    def _prefix(self) -> str:
        return f"triton-test-{self.metrics_port}-"

    def _arguments(self) -> Sequence[str]:
        return [
            "--model-repository", str(self.repository), "--model-control-mode", "explicit",
            "--disable-auto-complete-config", "--allow-http=false", "--allow-cpu-metrics=false",
            "--grpc-address", self.host, "--grpc-port", str(self.grpc_port),
            "--metrics-address", LOOPBACK, "--metrics-port", str(self.metrics_port),
            f"--grpc-restricted-protocol=model-repository:admin-key={KEY}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--backend-config=python,stub-timeout-seconds=240",  # a loaded machine needs more than its 30 s
        ]  # fmt: skip


@contextmanager
def tritons(repository: Path, folder: Path, *, count: int = 1) -> Iterator[list[Triton]]:
    """Several servers of one repository, alive, with nothing loaded; their logs are in `folder`."""
    servers = [Triton(repository, folder / f"triton-{number}.log") for number in range(count)]
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            server.start()
        yield servers


@asynccontextmanager
async def following(inference: TritonInference) -> AsyncIterator[TritonInference]:
    """The adapter as a process runs it, from the first time that it has asked the servers."""
    task = asyncio.create_task(inference.follow())
    try:
        await inference.until_polled()
        yield inference
    finally:
        task.cancel()
        await asyncio.wait([task])
        await inference.close()
