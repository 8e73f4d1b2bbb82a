"""How long a request may still take: every stage and every outgoing call takes its time from the caller's deadline."""

import time
from dataclasses import dataclass
from typing import Final, Self

from services.core.errors import DeadlineExceededError

DEFAULT_DEADLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    moment_s: float

    @classmethod
    def after(cls, seconds: float | None) -> Self:
        """The deadline of a caller who waits for `seconds` more; None (no deadline set) gets DEFAULT_DEADLINE_S."""
        return cls(time.monotonic() + (DEFAULT_DEADLINE_S if seconds is None else seconds))

    def left_s(self) -> float:
        """Seconds left, more than 0. Raises DeadlineExceededError where there are none."""
        left = self.moment_s - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError("the caller's deadline has passed")
        return left
