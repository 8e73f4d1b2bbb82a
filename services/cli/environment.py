"""Checks the interpreter and the packages with the standard library alone, so that it runs where they fail."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Final

MINIMUM_PYTHON: Final = (3, 11)
RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
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


def _wrong(requirement: str) -> str:
    """What is wrong with one requirement of `boneage`; empty where it is met or does not concern serving."""
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
