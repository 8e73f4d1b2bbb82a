"""How a job ends: one table of exit codes, and the errors that lead to them."""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """Outcome of a job's process. 64 and 74 are BSD's EX_USAGE and EX_IOERR; 143 is 128 + SIGTERM."""

    DONE = 0
    FAILED = 1
    WAITING_FOR_LABELS = 3
    BAD_CONFIGURATION = 64
    STORE_UNWRITABLE = 74
    INTERRUPTED = 143

    @property
    def outcome(self) -> str:
        """Its name as people read it."""
        return self.name.lower().replace("_", " ")


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.DONE: "the results are there",
    ExitCode.FAILED: "something else went wrong, such as a store that did not answer; another try may succeed",
    ExitCode.WAITING_FOR_LABELS: "outlines are awaited; the state is saved",
    ExitCode.BAD_CONFIGURATION: "the configuration, or data that it names, cannot be used; the message says what",
    ExitCode.STORE_UNWRITABLE: "results cannot be written: no room, no right, or a store that refuses",
    ExitCode.INTERRUPTED: "asked to stop; the state is saved",
}


class JobError(Exception):
    """Base of what ends a job early; the message goes to the person who started it."""

    exit_code: ExitCode


class FailedError(JobError):
    """What was to be used did not work this time; trying again may help."""

    exit_code = ExitCode.FAILED


class BadConfigurationError(JobError):
    """The configuration, or data that it names, cannot be used; trying again would not help."""

    exit_code = ExitCode.BAD_CONFIGURATION


class StoreUnwritableError(JobError):
    """Results cannot be written where the configuration wants them."""

    exit_code = ExitCode.STORE_UNWRITABLE


class Interrupted(JobError):  # noqa: N818 - not a fault: the job was asked to stop, and goes on when started again
    """The job was asked to stop; its state is saved."""

    exit_code = ExitCode.INTERRUPTED


class WaitingForLabels(JobError):  # noqa: N818 - not a fault: the next run goes on once the labels are there
    """The round's labels are with the oracle."""

    exit_code = ExitCode.WAITING_FOR_LABELS
