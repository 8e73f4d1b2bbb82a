"""What a run says while it runs: JSON lines, TensorBoard scalars, and a progress bar on a terminal, else lines."""

import json
import math
import sys
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

Value = float | int | str | None
SAID_EVERY_S: Final = 5.0
"""Where there is no terminal, as in a pod; validations are always said."""


class Journal:
    """Entries of one run by step, in `folder/log.jsonl` and `folder/tensorboard`."""

    def __init__(self, folder: Path, *, title: str, total: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        self._scalars = folder / "tensorboard"
        self._writer = SummaryWriter(str(self._scalars), flush_secs=10)
        self._file = self.path.open("a", buffering=1)
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
        print(json.dumps(entry), file=self._file)
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
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
            print(f"{self._title}: {step}{of}  {figures}".rstrip(), file=sys.stderr, flush=True)

    def rewind(self, step: int) -> None:
        """Forget the entries after `step`: a killed run had logged more than it had saved."""
        self._file.close()
        kept = [line for line in self.path.read_text().splitlines() if _step_of(line) <= step]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(line + "\n" for line in kept))
        partial.replace(self.path)
        self._file = self.path.open("a", buffering=1)
        self._writer.close()
        self._writer = SummaryWriter(str(self._scalars), purge_step=step + 1, flush_secs=10)
        self._bar.update(self._task, completed=step)

    def close(self) -> None:
        """Flush and end the bar."""
        self._bar.stop()
        self._writer.close()
        self._file.close()

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


def _step_of(line: str) -> float:
    """The step of one line; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf
