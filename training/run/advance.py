"""Counts what a run has done of its images, says so, and ends it in order when it is asked to stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.run.exits import Interrupted
from training.run.journal import Journal, Value
from training.run.steps import stop_requests


class Advance:
    """Called with how many images were done; those that are `kept` from before a kill are counted, but not logged.

    Both raise Interrupted when the process was asked to stop.
    """

    def __init__(self, journal: Journal, stopping: Callable[[], bool], total: int) -> None:
        self._journal, self._stopping, self._total = journal, stopping, total
        self._done, self._logged = 0, False

    def __call__(self, count: int, **figures: Value) -> None:
        """So many are done, with figures to log."""
        if not self._logged:
            self._journal.rewind(self._done)  # a killed run may have logged what it did not keep
            self._logged = True
        self._done += count
        self._journal.record(self._done, **figures)
        self._end_if_asked()

    def kept(self, count: int) -> None:
        """So many need not be done."""
        self._done += count
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self._stopping():
            raise Interrupted(f"stopped after {self._done} of {self._total} images; start it again to go on")


@contextmanager
def advancing(folder: Path, *, title: str, total: int) -> Iterator[Advance]:
    """Counts images with a journal in `folder`."""
    with Journal(folder, title=title, total=total) as journal, stop_requests() as stopping:
        yield Advance(journal, stopping, total)
