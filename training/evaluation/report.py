"""How the studies write their reports: Markdown, a file at once or not at all."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from training.run.results import write_text

REPORT: Final = "report.md"


def write_lines(folder: Path, lines: Iterable[str]) -> None:
    """Write `report.md` into `folder`. Raises StoreUnwritableError."""
    write_text(folder / REPORT, "\n".join(lines) + "\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, line by line."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
