"""Looks for what keeps the system from running on this machine, and names each fault with its fix."""

import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import psutil

from services.cli.supervisor import LOOPBACK, is_serving

MINIMUM_PYTHON: Final = (3, 11)
MINIMUM_MEMORY_GIB: Final = 1.5
PORTS: Final = {"gRPC": 50051, "HTTP": 9100}
RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
HEALTH_TIMEOUT_S: Final = 3.0
INSTALL: Final = "pip install -e '.[serving,cpu]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `fix` is empty where it is as it should be."""

    name: str
    detail: str
    fix: str = ""

    @property
    def fault(self) -> bool:
        """Whether something has to be done."""
        return bool(self.fix)


def check_python() -> Iterator[Finding]:
    """The interpreter's version."""
    version, needed = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, MINIMUM_PYTHON))
    fix = (
        "" if sys.version_info >= MINIMUM_PYTHON else f"install Python {needed} or newer and make the environment anew"
    )
    yield Finding("Python", version, fix)


def check_packages() -> Iterator[Finding]:
    """What serving needs, in the versions that the distribution asks for, and exactly one ONNX runtime."""
    try:
        requirements = metadata.requires("boneage") or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", "boneage itself is not installed", INSTALL)
        return
    wrong = [text for requirement in requirements if (text := _wrong(requirement))]
    yield Finding("packages", "; ".join(wrong) or "all that serving needs", INSTALL if wrong else "")
    yield check_runtime([name for name in RUNTIMES if _version(name)])


def check_runtime(installed: list[str]) -> Finding:
    """That one ONNX runtime is installed: they overwrite each other's files."""
    fixes = {0: INSTALL, 1: ""}
    both = f"pip uninstall -y {' '.join(RUNTIMES)} and then {INSTALL}"
    return Finding("ONNX runtime", " and ".join(installed) or "none installed", fixes.get(len(installed), both))


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


async def check_server(address: str) -> Finding:
    """That the server at `address` answers and is ready."""
    if await is_serving(address, timeout_s=HEALTH_TIMEOUT_S):
        return Finding("server", f"{address} is serving")
    return Finding(
        "server",
        f"{address} does not answer as serving",
        f"start it with `boneage serve`, or check the address {address}",
    )


def _wrong(requirement: str) -> str:
    """What is wrong with one requirement of `boneage` that serving has; empty where it is met or does not concern it."""
    match = re.match(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?[^;]*(?:;.*extra == ['\"](\w+)['\"])?", requirement)
    if match is None or match[3] not in (None, "serving"):
        return ""
    name, needed, version = match[1], match[2] or "0", _version(match[1])
    if not version:
        return f"{name} is missing"
    return f"{name} {version} is older than {needed}" if _numbers(version) < _numbers(needed) else ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
