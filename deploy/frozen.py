"""Prints the packages of the interpreter that runs it, as pip's `freeze` does where there is no pip."""

import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from typing import Final

OURS: Final = "boneage"


def packages() -> Iterator[str]:
    """Name and version of each, but for the project itself, which is on no index."""
    found = {dist.metadata["Name"]: dist.version for dist in distributions()}
    yield from sorted((f"{name}=={version}" for name, version in found.items() if name != OURS), key=str.lower)


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in packages())
