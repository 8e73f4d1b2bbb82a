"""Times the stages of one assessment."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds by stage, and since it was made."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}
        self._start_s = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, waiting included."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.stages_ms[name] = (time.perf_counter() - start_s) * 1e3

    @property
    def total_ms(self) -> float:
        """Milliseconds since it was made."""
        return (time.perf_counter() - self._start_s) * 1e3
