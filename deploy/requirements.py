"""Prints what this project and some of its extras ask for: `python deploy/requirements.py serving cpu`.

An image installs that before the code comes, so that a change of the code builds in seconds.
"""

import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"


def requirements(extras: Sequence[str], project: Path = PROJECT) -> Iterator[str]:
    """One requirement after the other, as pip reads them. Raises KeyError for an extra that there is none of."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    yield from table["dependencies"]
    for extra in extras:
        yield from table["optional-dependencies"][extra]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in requirements(sys.argv[1:]))
