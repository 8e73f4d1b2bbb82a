"""A run can be stopped, killed or left without disk at any instant, and loses nothing that it had saved."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.run.checkpoint import Checkpoint  # noqa: E402
from training.run.exits import BadConfigurationError, ExitCode, StoreUnwritableError  # noqa: E402
from training.run.journal import Journal, read_journal  # noqa: E402

SUMS = Path(__file__).with_name("sums.py")
STEPS = 4000


def start(folder: Path, *, every_s: float) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen([sys.executable, str(SUMS), str(folder), str(STEPS), str(every_s)], env=environment)


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Return once the run has logged `step`, or is over."""
    while process.poll() is None and not any(int(entry["step"]) >= step for entry in read_journal(folder)):
        pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a finished run left."""
    state = torch.load(folder / "last.pt", weights_only=True)
    assert state["finished"]
    assert state["step"] == STEPS
    return state["learner"]["network"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder, every_s=1000).wait() == ExitCode.DONE
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    """Same weights to the byte, same figures in the log at the same steps."""
    ours, theirs = weights(folder), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    figures = [[(e["step"], e["loss"]) for e in read_journal(each)] for each in (folder, other)]
    assert figures[0] == figures[1]


def test_killed_at_random_instants_ends_with_the_same_weights(undisturbed, tmp_path):
    """SIGKILL leaves no time to save; the next start goes on from the last checkpoint."""
    draw = random.Random(11)
    for _ in range(3):
        process = start(tmp_path, every_s=0.05)
        wait_for_step(tmp_path, draw.randrange(200, STEPS - 500), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path, every_s=0.05).wait() == ExitCode.DONE
    assert_same_run(tmp_path, undisturbed)


def test_asked_to_stop_saves_and_says_so(undisturbed, tmp_path):
    """SIGTERM ends with 143 after the step at hand, and nothing is done twice."""
    process = start(tmp_path, every_s=1000)
    wait_for_step(tmp_path, 500, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == ExitCode.INTERRUPTED
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] >= 500
    assert start(tmp_path, every_s=1000).wait() == ExitCode.DONE
    assert_same_run(tmp_path, undisturbed)


def test_finished_run_is_not_done_again(undisturbed):
    """Starting it once more changes nothing on disk."""
    before = (undisturbed / "last.pt").read_bytes()
    assert start(undisturbed, every_s=0.0).wait() == ExitCode.DONE
    assert (undisturbed / "last.pt").read_bytes() == before


def test_full_disk_keeps_the_old_state(tmp_path):
    """A state that does not fit is given up, the one before stays whole; only the last one must fit."""
    checkpoint = Checkpoint(tmp_path / "last.pt")
    assert checkpoint.save({"step": 1})
    (tmp_path / "last.pt.partial").symlink_to("/dev/full")
    assert not checkpoint.save({"step": 2, "weights": torch.zeros(100_000)})
    assert checkpoint.load() == {"step": 1}
    (tmp_path / "last.pt.partial").symlink_to("/dev/full")
    with pytest.raises(StoreUnwritableError, match="cannot be written"):
        checkpoint.save({"step": 3, "weights": torch.zeros(100_000)}, last=True)
    assert checkpoint.load() == {"step": 1}


def test_damaged_checkpoint_is_named(tmp_path):
    """It is never taken for a new start, which would lose the run."""
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(BadConfigurationError, match=r"last\.pt is no checkpoint"):
        Checkpoint(tmp_path / "last.pt").load()


def test_checkpoint_is_due_by_the_clock(tmp_path):
    """Every so many seconds, counted from the last try."""
    now = 0.0
    checkpoint = Checkpoint(tmp_path / "last.pt", every_s=10, clock=lambda: now)
    assert not checkpoint.due()
    now = 10.0
    assert checkpoint.due()
    checkpoint.save({})
    assert not checkpoint.due()


def test_journal_forgets_what_was_not_saved(tmp_path):
    """After a rewind the log holds each step once; a line cut off by a kill is dropped."""
    with Journal(tmp_path, title="t") as journal:
        for step in (1, 2, 3):
            journal.record(step, loss=1.0 / step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with Journal(tmp_path, title="t") as journal:
        journal.rewind(2)
        journal.record(3, loss=0.25, note="again")
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert any((tmp_path / "tensorboard").iterdir())
