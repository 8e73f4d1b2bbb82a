"""How a job ends: every way has its exit code, one line for people and one for programs."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from services.cli.jobs_objects import EXIT_CODES
from training.run.ending import Ending, outcome_of
from training.run.exits import (
    MEANINGS,
    BadConfigurationError,
    ExitCode,
    FailedError,
    Interrupted,
    StoreUnwritableError,
    WaitingForLabels,
)


def test_every_code_has_its_meaning_and_the_command_line_knows_it():
    """One table; serving, which installs no training, has its copy."""
    assert list(MEANINGS) == list(ExitCode)
    assert {code.outcome: int(code) for code in ExitCode} == EXIT_CODES


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ExitCode.DONE),
        (FailedError("x"), ExitCode.FAILED),
        (ValueError("x"), ExitCode.FAILED),
        (WaitingForLabels("x"), ExitCode.WAITING_FOR_LABELS),
        (BadConfigurationError("x"), ExitCode.BAD_CONFIGURATION),
        (StoreUnwritableError("x"), ExitCode.STORE_UNWRITABLE),
        (Interrupted("x"), ExitCode.INTERRUPTED),
        (OSError(errno.ENOSPC, "x", "/work/a"), ExitCode.STORE_UNWRITABLE),
        (OSError(errno.EROFS, "x", "/work/a"), ExitCode.STORE_UNWRITABLE),
        (PermissionError(errno.EACCES, "x", "/work/not/there"), ExitCode.STORE_UNWRITABLE),
        (FileNotFoundError(errno.ENOENT, "x", "/data/a"), ExitCode.BAD_CONFIGURATION),
        (OSError(errno.EIO, "x", "/work/a"), ExitCode.FAILED),
    ],
)
def test_what_ended_a_run_has_a_code(error, code):
    """Where trying again would not help it says so: a file that is missing, a disk that is full or not ours."""
    found, message = outcome_of(error)
    assert found == code
    assert ("x" in message) == (error is not None)


def ended(tmp_path, run, **environment):
    """The exit code of a run, and what it left for programs."""
    file = tmp_path / "outcome"
    code = Ending.read("transfer", {"TRAINING_OUTCOME_FILE": str(file), **environment}).of(run)
    return code, json.loads(file.read_text()) if file.exists() else None


def test_the_outcome_is_one_line_of_json(tmp_path):
    """Short enough for a pod's termination message."""

    def run():
        raise BadConfigurationError("y" * 5000)

    code, told = ended(tmp_path, run)
    assert code == 64
    assert told == {"job": "transfer", "outcome": "bad configuration", "message": "y" * 1000}
    assert ended(tmp_path, lambda: None) == (0, {"job": "transfer", "outcome": "done", "message": ""})


@pytest.mark.parametrize(("character", "kept"), [("é", 1000), ("\U0001f9b4", 1000), ("\x01", 600), ("\udcff", 1000)])
def test_however_it_is_written_the_outcome_fits(tmp_path, character, kept):
    """The kubelet keeps 4096 bytes, and half a line would be no JSON; a file's name may be no text at all."""

    def run():
        raise BadConfigurationError(character * 5000)

    _, told = ended(tmp_path, run)
    assert (tmp_path / "outcome").stat().st_size < 4096
    assert len(told["message"]) >= kept
    assert set(told["message"]) == {"?" if character == "\udcff" else character}


def test_a_run_that_waits_may_end_well(tmp_path):
    """On Kubernetes it has not failed; what it waits for stands in its outcome."""

    def run():
        raise WaitingForLabels("3 outlines are awaited")

    assert ended(tmp_path, run)[0] == 3
    code, told = ended(tmp_path, run, TRAINING_WAITING_EXIT_CODE="0")
    assert (code, told["outcome"]) == (0, "waiting for labels")


def test_the_first_of_several_processes_tells_for_all(tmp_path):
    """Others have their exit codes alone."""
    assert ended(tmp_path, lambda: None, LOCAL_RANK="1") == (0, None)


@pytest.mark.parametrize("code", ["-1", "256", "three"])
def test_a_wrong_environment_is_told(code):
    """Read once, before anything starts."""
    with pytest.raises(BadConfigurationError, match="TRAINING_WAITING_EXIT_CODE is"):
        Ending.read("transfer", {"TRAINING_WAITING_EXIT_CODE": code})


WAITS = """
import signal, sys
from training.run.ending import Ending
def run():
    print("runs", flush=True)
    signal.pause()
sys.exit(Ending("publish").of(run))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_does_not_look_for_it_is_stopped_too(number):
    """As the first process of a container it would not be, if nobody asked for the signal."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert said == "stopped; start it again to go on\n"
