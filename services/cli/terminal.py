"""What the user sees while a batch runs: lines on standard output, progress and warnings on standard error."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.reading import Reading, years_and_months
from services.cli.usage import printable

READING: Final = "reading"
TABLE_WIDTH: Final = 160
Advance = Callable[[], None]


@contextlib.contextmanager
def progress(total: int, *, starting: bool) -> Iterator[Advance]:
    """A progress bar on standard error while the context lasts; nothing where that is no terminal.

    Until the first file is read it says that services are `starting`, where they are.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines on a terminal go above the bar; where standard output is a file or a pipe they must stay there.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("starting the services" if starting else READING, total=total)
        yield lambda: bar.update(task, advance=1, description=READING)


def line_of(reading: Reading) -> str:
    """One reading on one line."""
    name = printable(reading.file.path)
    if reading.status != "OK" or reading.response is None:
        return f"{name}  {reading.status}  {printable(reading.reason)}"
    return (
        f"{name}  {reading.status}  {_value(reading)}, sex {reading.sex} ({reading.sex_source}), "
        f"release {reading.response.release}, {reading.stages_ms['total']:.0f} ms"
    )


def _value(reading: Reading) -> str:
    if reading.age_months is None or reading.interval_months is None:
        told = [f"{c.name} {c.probability:.1%}" for c in reading.classes]
        return printable(f"{', '.join(told)}, 90% set: {', '.join(reading.class_set)}")
    low, high = reading.interval_months
    age = f"{years_and_months(reading.age_months)} ({reading.age_months:.1f} months)"
    return f"{age}, 90% interval {low:.1f} to {high:.1f} months"


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table_console() -> Console:
    """A console for tables, on standard output; a file or a pipe is as wide as the widest table."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


def say(text: str) -> None:
    """A line on standard error, at once."""
    print(text, file=sys.stderr, flush=True)


class Tally:
    """Counts readings by status, and keeps those that failed."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._failures: list[Reading] = []

    def add(self, reading: Reading) -> None:
        """Count one."""
        self._count[reading.status] += 1
        if reading.status == "FAILED":
            self._failures.append(reading)

    @property
    def failed(self) -> int:
        """How many failed."""
        return self._count["FAILED"]

    def say(self) -> None:
        """Say on standard error how many were read, and name each that failed with its reason."""
        ok, abstained = self._count["OK"], self._count["ABSTAINED"]
        say(f"{counted(self._count.total(), 'image')}: {ok} read, {abstained} abstained, {self.failed} failed")
        for reading in self._failures:
            say(f"  failed: {printable(reading.file.path)}: {printable(reading.reason)}")
