"""Looks for what keeps the system from running on this machine, and names each fault with its fix."""

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import psutil
from rich.markup import escape
from rich.table import Table

from services.cli.environment import Finding, check_packages, check_python
from services.cli.server import Server
from services.cli.supervisor import LOOPBACK, is_serving
from services.cli.terminal import table_console
from services.core.adapters.inference_onnxruntime import load_session
from services.core.adapters.model_repository import ModelRepository
from services.core.errors import BoneageError, ConfigurationError
from services.core.runtime.settings import ModelSettings, ServerSettings, read_settings

MINIMUM_MEMORY_GIB: Final = 1.5
PORTS: Final = {"gRPC": 50051, "HTTP": 9100}
HEALTH_TIMEOUT_S: Final = 3.0


async def doctor(server: Server) -> int:
    """Print all findings and give the exit code: 1 if there is a fault."""
    findings = [*check_python(), *check_packages(), *check_settings(), check_memory()]
    if not any(finding.fault for finding in findings):
        findings += check_models()
    findings += [await check_server(server)] if server.address else check_ports(port_in_use)
    table_console().print(table_of(findings))
    return 1 if any(finding.fault for finding in findings) else 0


def table_of(findings: Iterable[Finding]) -> Table:
    """One row for each finding."""
    table = Table("", "what", "found", "fix")
    for finding in findings:
        mark = "[red]fault[/]" if finding.fault else "[green]ok[/]"
        table.add_row(mark, finding.name, escape(finding.detail), escape(finding.fix))
    return table


def check_settings() -> Iterator[Finding]:
    """That the environment holds only settings that there are, with values that they take."""
    try:
        read_settings(ServerSettings)
        read_settings(ModelSettings)
    except ConfigurationError as error:
        yield Finding("settings", str(error), f"unset {error.field} or correct it")
    else:
        yield Finding("settings", "all known")


def check_models() -> Iterator[Finding]:
    """That the current release is whole, and that each of its models loads with the tensors agreed on."""
    root = read_settings(ModelSettings).model_repository
    try:
        release = ModelRepository(root).get()
        for model, version in release.models.items():
            load_session(root, model, version, threads=1)
    except BoneageError as error:
        yield Finding("models", str(error), f"restore {root} as it was published, or set BONEAGE_MODEL_REPOSITORY")
    else:
        models = ", ".join(f"{model} {version}" for model, version in release.models.items())
        yield Finding("models", f"release {release.id}: {models}")


def check_ports(in_use: Callable[[int], bool]) -> Iterator[Finding]:
    """That the usual ports are free."""
    for name, port in PORTS.items():
        fix = f"stop what listens on port {port}, or choose another with `boneage serve --port`" if in_use(port) else ""
        yield Finding(f"{name} port", f"{port} is in use" if fix else f"{port} is free", fix)


def check_memory() -> Finding:
    """That there is memory for all services."""
    available = psutil.virtual_memory().available / 2**30
    fix = "" if available >= MINIMUM_MEMORY_GIB else f"free memory: all services together need {MINIMUM_MEMORY_GIB} GiB"
    return Finding("memory", f"{available:.1f} GiB available", fix)


def port_in_use(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


async def check_server(server: Server) -> Finding:
    """That a server answers and is ready."""
    if await is_serving(server.address, tls=server.tls, timeout_s=HEALTH_TIMEOUT_S):
        return Finding("server", f"{server.address} is serving")
    return Finding(
        "server",
        f"{server.address} does not answer as serving",
        f"start it with `boneage serve`, or check the address {server.address}",
    )
