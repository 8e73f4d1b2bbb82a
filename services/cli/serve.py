"""`boneage serve`: all services in one process group, or one service in place of this process."""

import asyncio
import os
import sys

from rich.table import Table

from services.cli.supervisor import TLS_KEYS, Child, Supervisor, command_of
from services.cli.terminal import say, table_console
from services.cli.usage import UsageError


def replace_by(name: str, port: int | None) -> None:
    """Become the service `name`; only a port that was given is passed on."""
    environment = dict(os.environ) if port is None else {**os.environ, "BONEAGE_GRPC_PORT": str(port)}
    sys.stdout.flush()
    os.execve(sys.executable, command_of(name), environment)  # noqa: S606  # our own interpreter and module


async def serve_all(port: int) -> int:
    """Run all services until a signal ends this task, or until one of them ends, which is an error."""
    if keys := [key for key in os.environ if key.startswith(TLS_KEYS)]:
        raise UsageError(f"{keys[0]} is for single services (boneage serve NAME); a group talks over the loopback only")
    supervisor = Supervisor(port=port, log=sys.stderr)
    async with supervisor.running() as address:
        table_console().print(table_of(supervisor.children))
        print(f"assess with: boneage assess --server {address} PATH", flush=True)
        ended = await supervisor.first_to_end()
        await asyncio.sleep(0)
        say(f"{ended.name} ended with exit code {ended.process.returncode}, so all services are stopped:")
        say(ended.last_words())
    return 1


def table_of(children: list[Child]) -> Table:
    """Addresses of the services."""
    table = Table("service", "gRPC", "metrics and health", "process")
    for child in children:
        table.add_row(child.name, child.address, f"http://{child.http_address}", str(child.process.pid))
    return table
