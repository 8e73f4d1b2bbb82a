"""Runs all services on the releases of a store: a verified copy of them, and the release service that moves them."""

import asyncio
import json
import os
import secrets
import socket
from hashlib import sha256
from pathlib import Path
from typing import Final, get_args

from typing_extensions import override

from services.cli.supervisor import (
    LOOPBACK,
    MODEL_SERVICES,
    POLL_S,
    Child,
    Supervisor,
    check_alive,
    wait_until_ready,
)
from services.core.runtime.authorisation import Right

RELEASE: Final = "release"
SYNC: Final = "release.sync"
REPOSITORY_KEY: Final = "BONEAGE_MODEL_REPOSITORY"
HOST_KEY: Final = "BONEAGE_HOST_KEY_FILE"
CALLERS: Final = "BONEAGE_CALLERS_FILE"
CALLERS_FILE: Final = "callers.json"


class StoreSupervisor(Supervisor):
    """As `Supervisor`, with the store that `BONEAGE_STORE` names in place of the embedded release.

    The copy is kept where `BONEAGE_MODEL_REPOSITORY` says, and else goes with the group. Without `BONEAGE_CALLERS_FILE`
    whoever can read `token_file` may move releases: the group listens on the loopback only.
    """

    token_file: Path | None = None

    @property
    def release_address(self) -> str:
        """Where the release service answers."""
        return next(child.address for child in self.children if child.name == RELEASE)

    @override
    async def _start(self, folder: Path) -> None:
        shared = _shared(folder)
        self.token_file = None if CALLERS in os.environ else _write_caller(folder)
        callers = {CALLERS: str(folder / CALLERS_FILE)} if self.token_file else {}
        await _filled(Path(shared[REPOSITORY_KEY]), await self.spawn(SYNC, folder, shared))
        # Their ports are chosen here: with Triton they are ready only once the release service, which must know where
        # they are, has had their models loaded.
        ports = {name: free_port() for name in (*MODEL_SERVICES, RELEASE)}
        models = [
            await self.spawn(
                name, folder, {**self.model_environment(name), **shared, "BONEAGE_GRPC_PORT": str(ports[name])}
            )
            for name in MODEL_SERVICES
        ]
        metrics_port = free_port()
        release = await self.spawn(RELEASE, folder, {
            **shared,
            **callers,
            "BONEAGE_GRPC_PORT": str(ports[RELEASE]),
            "BONEAGE_MODEL_HOSTS": ",".join(f"{LOOPBACK}:{ports[name]}" for name in MODEL_SERVICES),
            "BONEAGE_ASSESSMENT_METRICS": f"{LOOPBACK}:{metrics_port}",
        })  # fmt: skip
        await asyncio.gather(*(wait_until_ready(child) for child in (release, *models)))
        await self.start_assessment(
            folder,
            models,
            BONEAGE_HTTP_PORT=str(metrics_port),
            BONEAGE_RELEASE_ADDRESS=release.address,
            BONEAGE_ROUTING_FILE=os.environ.get("BONEAGE_ROUTING_FILE") or str(folder / "routing.json"),
        )


def _shared(folder: Path) -> dict[str, str]:
    """What all are told: where the copy lies, and the key to the model services, made here where none is given."""
    repository = Path(os.environ.get(REPOSITORY_KEY) or folder / "repository")
    repository.mkdir(parents=True, exist_ok=True)
    if HOST_KEY in os.environ:
        return {REPOSITORY_KEY: str(repository)}
    key_file = folder / "host.key"
    key_file.write_text(secrets.token_hex(32))
    return {REPOSITORY_KEY: str(repository), HOST_KEY: str(key_file)}


def _write_caller(folder: Path) -> Path:
    """One caller who may do everything; gives the file with the token, which nobody else can read."""
    token_file, token = folder / "token", secrets.token_hex(32)
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    caller = {"name": "operator", "token_sha256": sha256(token.encode()).hexdigest(), "rights": get_args(Right)}
    (folder / CALLERS_FILE).write_text(json.dumps({"callers": [caller]}))
    return token_file


async def _filled(repository: Path, sync: Child) -> None:
    """Wait until the copy holds a release that answers. Raises ServiceStartError where the sync ends before that."""
    while not (repository / "releases" / "current").exists():
        await check_alive(sync)
        await asyncio.sleep(POLL_S)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
