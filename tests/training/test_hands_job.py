"""The job that prepares hands: as serving would, row by row, with what cannot be prepared named."""

import asyncio
import csv
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.domain.preprocess import hand_image  # noqa: E402
from tests.waiting import until  # noqa: E402
from training.data.radiographs import read_frame  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.hands import frame_masks, load_segmenter  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402

COUNT = 20
PATIENCE_S = 240


@pytest.fixture
def project(tmp_path):
    """Radiographs of bright ellipses, one of them broken and one without contrast, and two networks."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        picture = rng.integers(0, 30, (160, 120)).astype(np.uint8)
        axes = (int(rng.integers(20, 45)), int(rng.integers(40, 70)))
        cv2.ellipse(picture, (60, 80), axes, float(rng.uniform(0, 30)), 0, 360, 180, -1)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
    (tmp_path / "images" / "7.png").write_bytes(b"no image")
    ids = [str(number) for number in range(COUNT)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,boneage,male", *(f"{i},100,True" for i in ids)]) + "\n")
    (tmp_path / "split.csv").write_text("\n".join(["id,part", *(f"{i},train" for i in ids)]) + "\n")
    torch.manual_seed(0)
    torch.save({"model": FCDenseNet().state_dict()}, tmp_path / "segmenter.pt")
    torch.save({"model": UNetGenerator().state_dict()}, tmp_path / "enhancer.pt")
    return tmp_path


def config(project, **changes):
    """The configuration with changes, as a file."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    values = {
        "dataset": dataset, "out": str(project / "hands"), "segmenter": str(project / "segmenter.pt"),
        "enhancer": str(project / "enhancer.pt"), "processes": 1,
    }  # fmt: skip
    (project / "hands.yaml").write_text(yaml.safe_dump(values | changes))
    return [sys.executable, "-m", "training.jobs.hands", "--config", str(project / "hands.yaml")]


def ended(command):
    """The job, to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def failures(project):
    """What the job could not prepare, by id."""
    with (project / "hands" / "failures.csv").open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def test_killed_at_any_time_it_goes_on_and_names_what_it_could_not_prepare(project):
    """Killed twice, every row comes but the broken file's; mended, that one too; each is what serving makes."""
    command = config(project)
    for rows in (1, 12):
        job = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        workers = wait_for_rows(project, rows, job)
        job.send_signal(signal.SIGKILL)
        job.wait(PATIENCE_S)
        asyncio.run(until(lambda workers=workers: not any(alive(pid) for pid in workers), timeout_s=PATIENCE_S))
    done = ended(command)
    assert done.returncode == 0, done.stderr
    assert "1 of 20 radiographs could not be prepared: 7" in done.stderr
    assert failures(project).keys() == {"7"}
    prepared = Rows.read(project / "hands")
    assert prepared.missing.tolist() == [7]

    picture = cv2.imread(str(project / "images" / "6.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(project / "images" / "7.png"), picture)
    assert ended(command).returncode == 0
    assert failures(project) == {}
    prepared = Rows.read(project / "hands")
    assert prepared.done.all()
    assert all(np.array_equal(column[6], column[7]) for column in prepared.columns.values())

    frame = read_frame(project / "images" / "6.png", None)
    ((_, mask),) = frame_masks(load_segmenter(project / "segmenter.pt"), [frame])
    expected = np.rint(hand_image(frame, mask)[0] * 255)
    np.testing.assert_allclose(prepared.columns["segmented"][6], expected, atol=1)
    assert prepared.columns["fraction"][6] == pytest.approx(mask.mean(), abs=1e-3)


def test_rows_of_another_model_are_not_mixed(project):
    """A new segmenter needs a new folder; nothing is written into the old one."""
    command = config(project)
    assert ended(command).returncode == 0
    before = (project / "hands" / "segmented.bin").read_bytes()
    torch.manual_seed(1)
    torch.save({"model": FCDenseNet().state_dict()}, project / "segmenter.pt")
    refused = ended(command)
    assert refused.returncode == 64
    assert "made with other made_by" in refused.stderr
    assert (project / "hands" / "segmented.bin").read_bytes() == before


@pytest.mark.parametrize("name", ["segmenter.pt", "segmenter.onnx"])
def test_weights_of_something_else_are_refused_before_anything_is_prepared(project, name):
    """Neither a damaged checkpoint nor a damaged export starts a process; the file is named."""
    (project / name).write_bytes(b"no weights")
    refused = ended(config(project, segmenter=str(project / name)))
    assert refused.returncode == 64
    assert f"{name} holds no weights of this network" in refused.stderr
    assert not (project / "hands" / "rows.json").exists()


def wait_for_rows(project, rows, job):
    """Wait until so many rows are there; returns the processes that the job has started."""

    def there():
        assert job.poll() is None, "the job ended early"
        return (project / "hands" / "rows.json").exists() and Rows.read(project / "hands").done.sum() >= rows

    asyncio.run(until(there, timeout_s=PATIENCE_S))
    tasks = Path(f"/proc/{job.pid}/task").glob("*/children")
    return [int(pid) for file in tasks for pid in file.read_text().split()]


def alive(pid):
    """Whether a process still runs."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except FileNotFoundError:
        return False
