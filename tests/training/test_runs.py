"""A run can be stopped, killed or left without disk at any instant, and loses nothing that it had saved."""

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tensorboardX.proto.event_pb2 import Event  # noqa: E402

from tests.disks import fill, small_disk  # noqa: E402
from tests.kills import PATIENCE_S, kill_at_random, undisturbed  # noqa: E402
from tests.waiting import until  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.run.checkpoint import EVERY_S, Checkpoint  # noqa: E402
from training.run.claim import RUNNING, alone, claimed  # noqa: E402
from training.run.exits import BadConfigurationError, ExitCode, FailedError, StoreUnwritableError  # noqa: E402
from training.run.journal import Journal, read_journal  # noqa: E402
from training.run.spent import Spent  # noqa: E402
from training.transfer.prefix import PrefixCache  # noqa: E402

SUMS = Path(__file__).with_name("sums.py")
STEPS = 4000


@pytest.fixture(autouse=True, scope="module")
def modules():
    """What the tests can import, processes that they start can too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        yield


def command(folder: Path, *, every_s: float) -> list[str]:
    """The command line of a run."""
    return [sys.executable, str(SUMS), str(folder), str(STEPS), str(every_s)]


def start(folder: Path, *, every_s: float, **options) -> subprocess.Popen:
    """A run in a process of its own."""
    return subprocess.Popen(command(folder, every_s=every_s), **options)


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    """Return once the run has logged `step`, or is over."""

    def logged() -> bool:
        return process.poll() is not None or any(int(entry["step"]) >= step for entry in read_journal(folder))

    asyncio.run(until(logged, timeout_s=PATIENCE_S))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a finished run left."""
    state = torch.load(folder / "last.pt", weights_only=True)
    assert state["finished"]
    assert state["step"] == STEPS
    return state["learner"]["network"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, undisturbed(command(folder, every_s=1000), folder / "tensorboard")


def assert_same_run(folder: Path, other: Path) -> None:
    """Same weights to the byte, same figures in the log at the same steps."""
    ours, theirs = weights(folder), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    figures = [[(e["step"], e["loss"]) for e in read_journal(each)] for each in (folder, other)]
    assert figures[0] == figures[1]


def test_killed_at_random_instants_ends_with_the_same_weights(whole, tmp_path):
    """SIGKILL leaves no time to save; the next start goes on from the last checkpoint."""
    undisturbed_run, seconds = whole
    kill_at_random(command(tmp_path, every_s=0.05), tmp_path / "tensorboard", within_s=seconds, times=3)
    assert start(tmp_path, every_s=0.05).wait() == ExitCode.DONE
    assert_same_run(tmp_path, undisturbed_run)


def test_asked_to_stop_saves_and_says_so(whole, tmp_path):
    """SIGTERM ends with 143 after the step at hand, and nothing is done twice."""
    process = start(tmp_path, every_s=1000)
    wait_for_step(tmp_path, 500, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == ExitCode.INTERRUPTED
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] >= 500
    assert start(tmp_path, every_s=1000).wait() == ExitCode.DONE
    assert_same_run(tmp_path, whole[0])


def test_asked_to_stop_on_a_full_disk_it_does_not_say_that_it_saved(tmp_path):
    """It ends with 74, which says so, and not with 143, which says that the state is there."""
    process = start(tmp_path, every_s=1000)
    wait_for_step(tmp_path, 500, process)
    (tmp_path / "last.pt.partial").symlink_to("/dev/full")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == ExitCode.STORE_UNWRITABLE
    assert not (tmp_path / "last.pt").exists()


def test_finished_run_is_not_done_again(whole):
    """Starting it once more changes nothing on disk."""
    folder, _ = whole
    before = (folder / "last.pt").read_bytes()
    assert start(folder, every_s=0.0).wait() == ExitCode.DONE
    assert (folder / "last.pt").read_bytes() == before


def test_full_disk_loses_no_entry_of_a_run_that_gets_room_again(whole, tmp_path):
    """The run goes on, and what it had to say follows; its weights and its log are those of any other run."""
    with small_disk(tmp_path / "disk", kilobytes=256) as disk:
        run = disk / "run"
        run.mkdir()
        said = ""
        with start(run, every_s=1000, stderr=subprocess.PIPE, text=True) as process:
            wait_for_step(run, 50, process)
            filler = fill(disk)
            for line in process.stderr:
                said += line
                if "log.jsonl cannot be written" in line:
                    filler.unlink()
        assert process.returncode == ExitCode.DONE, said
        assert "log.jsonl cannot be written" in said
        assert "are lost" not in said
        assert_same_run(run, whole[0])
        steps = [event.step for event in events(run) if event.summary.value]
        assert steps == sorted(steps)
        assert set(steps) == {entry["step"] for entry in read_journal(run)}


def test_entries_that_never_find_room_are_counted(tmp_path):
    """What was written stays whole, and whoever goes on writes behind it."""
    with small_disk(tmp_path / "disk", kilobytes=128) as disk:
        with Journal(disk, title="t") as journal:
            journal.record(1, loss=0.5)
        with start(disk, every_s=1000, stderr=subprocess.PIPE, text=True) as process:
            wait_for_step(disk, 50, process)
            fill(disk)
            said = process.stderr.read()
        assert process.returncode == ExitCode.STORE_UNWRITABLE, said
        last = max(entry["step"] for entry in read_journal(disk))
        assert f"log.jsonl: {(STEPS - last) // 5} entries are lost" in said
        (disk / "filler").unlink()
        with Journal(disk, title="t") as journal:
            journal.rewind(last)
            journal.record(STEPS, loss=0.1)
        assert [e["step"] for e in read_journal(disk)] == [*range(5, last + 1, 5), STEPS]


def test_room_is_taken_before_it_is_written_to(tmp_path):
    """Rows and kept maps that do not fit are refused with nothing left behind; those that fit, fit to the last byte."""
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        image = {"image": ((64, 64), "uint8"), "number": ((), "float32")}
        with pytest.raises(StoreUnwritableError, match=r"image\.bin cannot be written"):
            Rows.make(disk / "hands", [str(i) for i in range(200)], image, made_by="test")
        assert [path.name for path in (disk / "hands").iterdir()] == ["claimed"]
        rows = Rows.make(disk / "hands", [str(i) for i in range(40)], image, made_by="test")
        maps = PrefixCache.open(disk / "kept", "key", rows=20, shape=(4, 16, 16))
        fill(disk)
        everything = np.arange(40)
        rows.write(everything, image=np.ones((40, 64, 64), np.uint8), number=np.ones(40, np.float32))
        assert maps.fill(np.arange(20), lambda missing: torch.ones(len(missing), 4, 16, 16)) == 20
        assert Rows.read(disk / "hands").columns["image"].min() == 1
        with pytest.raises(StoreUnwritableError, match=r"image\.bin cannot be written"):
            Rows.make(disk / "others", [str(i) for i in range(40)], image, made_by="test")


def test_full_disk_keeps_the_older_figure_of_time(tmp_path):
    """It is a figure for people, and no run ends for it."""
    Spent(tmp_path).save()
    before = (tmp_path / "cpu_seconds").read_text()
    (tmp_path / "cpu_seconds.partial").symlink_to("/dev/full")
    Spent(tmp_path).save()
    assert (tmp_path / "cpu_seconds").read_text() == before


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


def test_the_environment_says_how_often_a_state_is_due(tmp_path, monkeypatch):
    """Unless the job does; what is no time is refused, with its name."""
    assert Checkpoint(tmp_path / "last.pt").every_s == 120
    monkeypatch.setenv(EVERY_S, "0.5")
    assert Checkpoint(tmp_path / "last.pt").every_s == 0.5
    assert Checkpoint(tmp_path / "last.pt", every_s=7).every_s == 7
    for wrong in ("soon", "0", "nan", "inf"):
        monkeypatch.setenv(EVERY_S, wrong)
        with pytest.raises(BadConfigurationError, match=f"{EVERY_S} is '{wrong}', not a number of seconds"):
            Checkpoint(tmp_path / "last.pt")


def test_a_run_is_alone_in_its_folder(tmp_path):
    """Whoever comes later waits, also after one that was killed; what a folder's rows claim is another matter."""
    with alone(tmp_path), claimed(tmp_path) as rows, claimed(tmp_path, name=RUNNING) as another:
        assert (rows, another) == (True, False)
    busy = pytest.raises(FailedError, match="another process works in")
    with claimed(tmp_path, name=RUNNING), busy, alone(tmp_path, wait=False):
        pass
    with pytest.raises(BadConfigurationError), alone(tmp_path / "refused"):
        raise BadConfigurationError
    assert not (tmp_path / "refused").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnwritableError, match="file cannot be written"), alone(tmp_path / "file"):
        pass


def test_of_many_that_wait_for_a_folder_one_at_a_time_has_it(tmp_path):
    """Also while those before them remove it behind themselves."""
    count, inside = 0, threading.Lock()

    def work():
        nonlocal count
        for _ in range(20):
            with alone(tmp_path / "run"):
                assert inside.acquire(blocking=False)
                count += 1
                inside.release()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(PATIENCE_S)
    assert count == 80
    assert not (tmp_path / "run").exists()


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
    written = [(event.step, value.simple_value) for event in events(tmp_path) for value in event.summary.value]
    assert written == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)), (3, 0.25)]
    assert [event.step for event in events(tmp_path) if event.HasField("session_log")] == [3]


def events(folder):
    """What TensorBoard would read, oldest file first."""
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack_from("<Q", content)
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
