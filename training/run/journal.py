"""What a run says while it runs: JSON lines, TensorBoard scalars, and a progress bar on a terminal, else lines."""

import json
import math
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.run.room import Growing
from training.run.scalars import Scalars

Value = float | int | str | None
SAID_EVERY_S: Final = 5.0
"""Where there is no terminal, as in a pod; validations are always said."""


class Journal:
    """Entries of one run by step, in `folder/log.jsonl` and `folder/tensorboard`.

    Where the disk is full they wait in memory and the run goes on; how many were lost in the end is said.
    """

    def __init__(self, folder: Path, *, title: str, total: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        self._scalars = Scalars(folder / "tensorboard")
        self._lines = Growing(self.path)
        self._started = perf_counter()
        self._title, self._total, self._said_at = title, total, -math.inf
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"), console=Console(stderr=True), disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=total, figures="")
        self._bar.start()

    def record(self, step: int, **values: Value) -> None:
        """Write one entry: `step`, seconds since this process began, and `values`; numbers become scalars as well."""
        entry = {"step": step, "seconds": round(perf_counter() - self._started, 3), **values}
        self._lines.add(f"{json.dumps(entry)}\n".encode())
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._scalars.add(name, value, step)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self._bar.update(self._task, completed=step, figures=figures)
        if self._bar.disable:
            self._say(step, figures, due=step == self._total or "validation" in figures)

    def _say(self, step: int, figures: str, *, due: bool) -> None:
        """A line of progress, now and then."""
        now = perf_counter()
        if due or now - self._said_at >= SAID_EVERY_S:
            self._said_at = now
            of = "" if self._total is None else f" of {self._total}"
            with suppress(OSError):  # standard error may go to a file as well
                print(f"{self._title}: {step}{of}  {figures}".rstrip(), file=sys.stderr, flush=True)

    def rewind(self, step: int) -> None:
        """Forget the entries after `step`: a killed run had logged more than it had saved. This takes no room."""
        kept = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n") or step < _step_of(line) < math.inf:
                break
            kept += len(line)
        self._lines.truncate(kept)
        self._scalars.forget_from(step + 1)
        self._bar.update(self._task, completed=step)

    def close(self) -> None:
        """Flush and end the bar."""
        self._bar.stop()
        self._scalars.close()
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(folder: Path) -> list[dict[str, Value]]:
    """The entries of a run, oldest first; a last line cut off by a kill is left out."""
    path = folder / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if _step_of(line) < math.inf]


def _step_of(line: str | bytes) -> float:
    """The step of one line; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
