"""`boneage serve`: all services in one process group, or one service in place of this process."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Final

from rich.table import Table

from services.cli.store_supervisor import StoreSupervisor
from services.cli.supervisor import TLS_KEYS, Child, Supervisor, command_of
from services.cli.terminal import say, table_console
from services.cli.usage import UsageError

INFERENCE: Final = "BONEAGE_INFERENCE"
TRITON_URL: Final = "BONEAGE_TRITON_URL"
STORE: Final = "BONEAGE_STORE"


def runtime_environment(inference: str | None, triton_url: str, store: str = "") -> dict[str, str]:
    """The settings of services that say where models run and lie; only what was given. Raises UsageError for half."""
    chosen = inference or os.environ.get(INFERENCE) or "onnxruntime"
    if chosen == "triton" and not (triton_url or os.environ.get(TRITON_URL)):
        raise UsageError("--inference triton needs to know where: --triton-url HOST:PORT[,HOST:PORT...]")
    if triton_url and chosen != "triton":
        raise UsageError("--triton-url goes with --inference triton")
    return {key: value for key, value in ((INFERENCE, inference), (TRITON_URL, triton_url), (STORE, store)) if value}


def replace_by(name: str, port: int | None, runtime: Mapping[str, str]) -> None:
    """Become the service `name`; only what was given is passed on: a port, and where models run."""
    own = {} if port is None else {"BONEAGE_GRPC_PORT": str(port)}
    sys.stdout.flush()
    os.execve(sys.executable, command_of(name), {**os.environ, **runtime, **own})  # noqa: S606  # our own interpreter


async def serve_all(port: int, runtime: Mapping[str, str]) -> int:
    """Run all services until a signal ends this task, or until one of them ends, which is an error."""
    if keys := [key for key in os.environ if key.startswith(TLS_KEYS)]:
        raise UsageError(f"{keys[0]} is for single services (boneage serve NAME); a group talks over the loopback only")
    kind = StoreSupervisor if runtime.get(STORE) or os.environ.get(STORE) else Supervisor
    supervisor = kind(port=port, log=sys.stderr, environment=runtime)
    async with supervisor.running() as address:
        table_console().print(table_of(supervisor.children))
        print(f"assess with: boneage assess --server {address} PATH", flush=True)
        if isinstance(supervisor, StoreSupervisor):
            token = f" --token-file {supervisor.token_file}" if supervisor.token_file else ""
            print(f"releases with: boneage release --server {supervisor.release_address}{token} list", flush=True)
        ended = await supervisor.first_to_end()
        await asyncio.sleep(0)
        say(f"{ended.name} ended with exit code {ended.process.returncode}, so all services are stopped:")
        say(ended.last_words())
    return 1


def table_of(children: list[Child]) -> Table:
    """Addresses of the services."""
    table = Table("service", "gRPC", "metrics and health", "process")
    for child in children:
        ports = (child.address, f"http://{child.http_address}") if child.grpc_port else ("", "")
        table.add_row(child.name, *ports, str(child.process.pid))
    return table
