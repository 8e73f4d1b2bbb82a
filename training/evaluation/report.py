"""How the studies write their reports: Markdown, a file at once or not at all."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from training.run.room import whole

REPORT: Final = "report.md"


def write_lines(folder: Path, lines: Iterable[str]) -> None:
    """Write `report.md` into `folder`. Raises StoreUnwritableError."""
    with whole(folder / REPORT) as file:
        file.write(("\n".join(lines) + "\n").encode())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, line by line."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
