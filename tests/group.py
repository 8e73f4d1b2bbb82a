"""The whole serving side as processes of their own: two of every service, several Tritons, a store, and who publishes.

Every member keeps its ports when it is started again, as a pod behind a name would be found again.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import grpc
import psutil

from services.cli.supervisor import is_serving
from services.client import ReleaseClient, connect
from services.core.adapters.publishing import publish_model, publish_release
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS
from services.core.domain.release import Release
from tests.ports import LOOPBACK, free_port
from tests.serving import child_environment
from tests.triton import KEY, Triton
from tests.waiting import until

MODEL_SERVICES: Final = ("segmentation", "enhancement", "regression", "cam")
TOKEN: Final = "token-of-the-tests"
STOP_S: Final = 30.0


@dataclass(slots=True)
class Member:
    """One process of ours."""

    module: str
    environment: Mapping[str, str]
    log: Path
    grpc_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers gRPC calls."""
        return f"{LOOPBACK}:{self.grpc_port}"

    def start(self) -> None:
        """Start it; it may take a moment to be ready."""
        ports = {"BONEAGE_GRPC_PORT": str(self.grpc_port), "BONEAGE_HTTP_PORT": str(self.http_port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], env={**self.environment, **ports}, stdout=log, stderr=log
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, or make it, and wait until it has."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, STOP_S)
        self.process = None

    async def is_serving(self) -> bool:
        """Whether it says so."""
        return await is_serving(self.address, timeout_s=2.0)

    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        return psutil.Process(self.process.pid).memory_info().rss if self.process else 0


@dataclass(slots=True)
class Publisher:
    """Publishes releases that share their weights with a first one, each with a regressor version of its own."""

    store: Store
    release: Release
    weights: Mapping[str, Path]
    private_key: Path | None = None
    made: list[Release] = field(default_factory=list)

    def publish(self, *, current: bool = False) -> Release:
        """One more release; every model gets a version where it has none yet, the reader always."""
        number = len(self.made) + 1
        versions = {name: (number if name == self.release.reader else 1) for name in self.weights}
        for name, version in versions.items():
            if version == number:
                publish_model(self.store, CONTRACTS[name], version, self.weights[name], {"trained_on": "elsewhere"})
        made = replace(self.release, id=f"soak-{number:04d}", models=versions, files={})
        publish_release(self.store, made, private_key=self.private_key, current=current)
        self.made.append(made)
        return made


@dataclass(slots=True)
class Group:
    """Everything that runs; `services` by name, each with its instances."""

    store: Store
    publisher: Publisher
    tritons: Sequence[Triton]
    services: dict[str, list[Member]]
    sync: Member
    folder: Path

    def target(self, name: str) -> str:
        """All instances of a service as one target for a channel."""
        return "ipv4:" + ",".join(member.address for member in self.services[name])

    def channel(self, name: str, service: str) -> grpc.aio.Channel:
        """A channel to all instances, as the client library opens it."""
        return connect(self.target(name), service)

    def releases(self) -> ReleaseClient:
        """A client of the release service that may do everything."""
        return ReleaseClient(self.target("release"), token=TOKEN)

    def members(self) -> list[Member]:
        """All instances of all services."""
        return [member for members in self.services.values() for member in members]

    def resident_bytes(self) -> int:
        """Memory of everything but the sync, with the processes of the Tritons' models."""
        total = sum(member.resident_bytes() for member in self.members())
        for server in self.tritons:
            for process in server.processes():
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        return total

    async def until_serving(self, *names: str, timeout_s: float = 90.0) -> None:
        """Wait until all instances of these services serve; of the release service one is enough."""
        for name in names or tuple(self.services):
            members = self.services[name]

            async def holds(members: Sequence[Member] = members, name: str = name) -> bool:
                serving = [await member.is_serving() for member in members]
                return any(serving) if name == "release" else all(serving)

            await until(holds, timeout_s=timeout_s)


@asynccontextmanager
async def running_group(
    folder: Path, release: Release, weights: Mapping[str, Path], *, tritons: int = 2, instances: int = 2, **told: object
) -> AsyncIterator[Group]:
    """The group, serving its first release, while the context lasts; `told` are settings of all of our processes."""
    store = Store(str(folder / "store"))
    publisher = Publisher(store, release, weights)
    publisher.publish(current=True)
    repository = folder / "repository"
    repository.mkdir()
    servers = [Triton(repository, folder / f"triton-{number}.log") for number in range(tritons)]
    group = _wired(folder, store, publisher, servers, repository, instances, told)
    try:
        group.sync.start()
        await until((repository / "releases" / "current").exists, timeout_s=60)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        for member in group.members():
            member.start()
        await group.until_serving()
        yield group
    finally:
        await asyncio.gather(*(member.stop() for member in (*group.members(), group.sync)), return_exceptions=True)
        for server in servers:
            server.kill()


def _wired(
    folder: Path, store: Store, publisher: Publisher, servers: Sequence[Triton], repository: Path, instances: int,
    told: Mapping[str, object],
) -> Group:  # fmt: skip
    key_file, callers_file = folder / "host.key", folder / "callers.json"
    key_file.write_text(KEY)
    rights = '["promote", "canary", "shadow", "rollback", "collect"]'
    digest = sha256(TOKEN.encode()).hexdigest()
    callers_file.write_text(f'{{"callers": [{{"name": "tests", "token_sha256": "{digest}", "rights": {rights}}}]}}')
    common = {
        "MODEL_REPOSITORY": repository, "STORE": folder / "store", "SYNC_INTERVAL_S": 0.3, "INFERENCE": "triton",
        "TRITON_URL": ",".join(server.address for server in servers), "HOST_KEY_FILE": key_file,
        "LOG_LEVEL": "info", "CALLERS_FILE": callers_file, "LOCK_FILE": folder / "lock", **told,
    }  # fmt: skip

    def members(name: str, **values: object) -> list[Member]:
        environment = child_environment(**common, **values)
        return [Member(f"services.{name}", environment, folder / f"{name}-{number}.log") for number in range(instances)]

    models = {name: members(name) for name in MODEL_SERVICES}
    targets = {f"{n.upper()}_ADDRESS": "ipv4:" + ",".join(m.address for m in found) for n, found in models.items()}
    hosts = ",".join(member.address for found in models.values() for member in found)
    release = members("release", MODEL_HOSTS=hosts)
    release_target = "ipv4:" + ",".join(member.address for member in release)
    assessment = members("assessment", RELEASE_ADDRESS=release_target, **targets)
    for member in assessment:
        kept = {"BONEAGE_ROUTING_FILE": str(folder / f"routing-{member.grpc_port}.json")}
        member.environment = {**member.environment, **kept}
    sync = Member("services.release.sync", child_environment(**common), folder / "sync.log")
    services = {**models, "release": release, "assessment": assessment}
    return Group(store, publisher, servers, services, sync, folder)


def embedded(root: Path = Path("deploy/models")) -> tuple[Release, dict[str, Path]]:
    """The embedded release and the weights of its models."""
    from services.core.adapters.model_repository import ModelRepository, model_file

    release = ModelRepository(root).get()
    return release, {name: model_file(root, name, version) for name, version in release.models.items()}
