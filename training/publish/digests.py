"""What tells whether something that was kept is still what would be made: digests of files and of the code."""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import training
from services import core


def digest(path: Path) -> str:
    """The SHA-256 of a file, as cards have it."""
    return sha256(path.read_bytes()).hexdigest()


def code() -> str:
    """SHA-256 of the code that trains and publishes and of what it shares with serving, and the runtimes' versions."""
    found = sha256(" ".join(map(version, ("torch", "onnxruntime"))).encode())
    for package in (training, core):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()
