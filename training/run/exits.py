"""How a job ends: one table of exit codes, and the errors that lead to them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Outcome of a job's process. 64 and 74 are BSD's EX_USAGE and EX_IOERR; 143 is 128 + SIGTERM."""

    DONE = 0
    WAITING_FOR_LABELS = 3
    BAD_CONFIGURATION = 64
    STORE_UNWRITABLE = 74
    INTERRUPTED = 143


class JobError(Exception):
    """Base of what ends a job early; the message goes to the person who started it."""

    exit_code: ExitCode


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
