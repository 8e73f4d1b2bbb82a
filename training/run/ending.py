"""Ends a job's process: whatever stopped it becomes one exit code, one line for people, and one for programs.

On Kubernetes a run that waits for outlines has not failed: TRAINING_WAITING_EXIT_CODE=0 lets its pod end well. What it
came to then stands in the file TRAINING_OUTCOME_FILE (the pod's termination message): {"job", "outcome", "message"}.
"""

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

from training.run.exits import BadConfigurationError, ExitCode, Interrupted, JobError, StoreUnwritableError

WAITING_EXIT_CODE: Final = "TRAINING_WAITING_EXIT_CODE"
OUTCOME_FILE: Final = "TRAINING_OUTCOME_FILE"
MESSAGE_CHARACTERS: Final = 1000
OUTCOME_BYTES: Final = 4095
"""A termination message has room for 4096 bytes; the kubelet cuts off what is more, and JSON that is cut is none."""
ESCAPED_BYTES: Final = 6
"""What one character takes at most in JSON."""
GREATEST_CODE: Final = 255
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
NO_RIGHT: Final = (errno.EACCES, errno.EPERM)
NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


@dataclass(frozen=True, slots=True)
class Ending:
    """Where and how the outcome of `job` is told."""

    job: str
    waiting_exit_code: int = ExitCode.WAITING_FOR_LABELS
    outcome_file: Path | None = None

    @classmethod
    def read(cls, job: str, environment: Mapping[str, str]) -> "Ending":
        """As the environment says. Raises BadConfigurationError."""
        code = environment.get(WAITING_EXIT_CODE, "") or str(int(ExitCode.WAITING_FOR_LABELS))
        if not code.isdecimal() or int(code) > GREATEST_CODE:
            raise BadConfigurationError(f"{WAITING_EXIT_CODE} is {code!r}, not a number from 0 to 255")
        file = environment.get(OUTCOME_FILE, "")
        # Of several processes that train together the first tells for all.
        return cls(job, int(code), Path(file) if file and environment.get("LOCAL_RANK", "0") == "0" else None)

    def of(self, run: Callable[[], None]) -> int:
        """Run to the end, and tell of it; the exit code.

        SIGTERM raises KeyboardInterrupt, as Ctrl-C does, wherever the run does not look for it itself: a container's
        first process would otherwise not hear it at all.
        """
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            run()
        except KeyboardInterrupt:
            return self._told(Interrupted("stopped; start it again to go on"))
        except JobError as error:
            return self._told(error)
        except Exception as error:  # noqa: BLE001 -- the process ends here, with the error told once
            return self._told(error)
        finally:
            signal.signal(signal.SIGTERM, before)
        return self._told(None)

    def _told(self, error: Exception | None) -> int:
        code, message = outcome_of(error)
        with suppress(OSError):  # standard error may go to a file on a disk that is full
            if code is ExitCode.FAILED and not isinstance(error, JobError):
                traceback.print_exception(error)
            elif message:
                print(message, file=sys.stderr)
        if self.outcome_file is not None:
            try:
                self.outcome_file.write_bytes(outcome_line(self.job, code.outcome, message))
            except OSError as reason:
                print(f"{OUTCOME_FILE}: {reason}", file=sys.stderr)
        return self.waiting_exit_code if code is ExitCode.WAITING_FOR_LABELS else int(code)


def outcome_line(job: str, outcome: str, message: str) -> bytes:
    """What programs are told: one line of JSON in UTF-8, with as much of the message as there is room for."""
    message = message[:MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()  # names of files may be no text
    while True:
        told = {"job": job, "outcome": outcome, "message": message}
        line = (json.dumps(told, ensure_ascii=False) + "\n").encode()
        if len(line) <= OUTCOME_BYTES or not message:
            return line
        message = message[: -ceil((len(line) - OUTCOME_BYTES) / ESCAPED_BYTES)]


def outcome_of(error: Exception | None) -> tuple[ExitCode, str]:
    """The exit code that stands for how a run ended, and what there is to say of it."""
    if error is None:
        return ExitCode.DONE, ""
    if isinstance(error, OSError):
        error = _of_file(error)
    if isinstance(error, JobError):
        return error.exit_code, str(error)
    return ExitCode.FAILED, f"{type(error).__name__}: {error}"


def _of_file(error: OSError) -> Exception:
    """What a file that cannot be used means, where trying again would not help."""
    if error.errno in NOT_THERE or (error.errno in NO_RIGHT and _is_secret(error.filename)):
        return BadConfigurationError(str(error))
    if error.errno in NO_ROOM + NO_RIGHT:
        return StoreUnwritableError(str(error))
    return error


def _is_secret(name: object) -> bool:
    """Whether a file is there and may not be read; one that may not be written is not there, or can be read."""
    return isinstance(name, str) and os.access(name, os.F_OK) and not os.access(name, os.R_OK)
