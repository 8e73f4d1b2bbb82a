"""The `boneage` command as a user runs it: child processes, real sockets, tiny models."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from tests.models import BIAS_MONTHS, HALF_WIDTH_MONTHS, RELEASE_ID, hand_picture, write_repository

TIMEOUT_S = 120
KEYS = [
    "path", "status", "age_months", "interval_low_months", "interval_high_months", "sex", "sex_source", "release",
    "reason", "quarter_turns", "negative", "stages_ms",
]  # fmt: skip
SECRET = "Doe^Jane"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose services have the tiny models."""
    root = write_repository(tmp_path_factory.mktemp("models"))
    own = {key: value for key, value in os.environ.items() if not key.startswith("BONEAGE_")}
    return {**own, "BONEAGE_MODEL_REPOSITORY": str(root), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[str]:
    """The address of `boneage serve`, which ends with exit code 0 on SIGTERM and leaves no process behind."""
    command = [sys.executable, "-m", "services.cli", "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        address = next(line.split()[5] for line in process.stdout if line.startswith("assess with:"))
        children = psutil.Process(process.pid).children(recursive=True)
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    assert len(children) == 5
    assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hands in subfolders, one black picture, and files that cannot be read."""
    folder = tmp_path_factory.mktemp("images")
    picture = np.rint(hand_picture() * 255).astype(np.uint8)
    for name in ("a/hand.png", "b/hand.jpg"):
        (folder / name).parent.mkdir()
        cv2.imwrite(str(folder / name), picture)
    write_dicom(folder / "c.dcm", picture)
    cv2.imwrite(str(folder / "black.png"), np.zeros_like(picture))
    (folder / "empty.dcm").touch()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return folder


def write_dicom(path: Path, picture: np.ndarray) -> None:
    """A radiograph of a girl, as a modality would send it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = SECRET, SECRET, "F"
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "DX", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = picture.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = picture.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def boneage(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def records(run: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """The JSON objects that a run printed."""
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_a_folder_is_read_in_order_and_a_bad_file_does_not_end_it(
    environment: dict[str, str], server: str, folder: Path
) -> None:
    """One object for each file, in sorted order; exit code 1 since two cannot be read, both named at the end."""
    run = boneage(environment, "assess", folder, "--json", "--server", server)
    assert run.returncode == 1, run.stderr
    found = records(run)
    assert [Path(str(record["path"])).relative_to(folder).as_posix() for record in found] == [
        "a/hand.png", "b/hand.jpg", "black.png", "broken.png", "c.dcm", "empty.dcm",
    ]  # fmt: skip
    assert [record["status"] for record in found] == ["OK", "OK", "ABSTAINED", "FAILED", "OK", "FAILED"]
    assert all(list(record) == KEYS for record in found)
    assert "6 images: 3 read, 1 abstained, 2 failed" in run.stderr
    assert run.stderr.count("failed: ") == 2


def test_a_record_says_what_was_read_and_why_not(environment: dict[str, str], server: str, folder: Path) -> None:
    """Numbers stand only where the status is OK, a reason only where it is not."""
    run = boneage(environment, "assess", folder / "c.dcm", folder / "black.png", "--json", "--server", server)
    assert run.returncode == 0, run.stderr
    hand, black = records(run)
    assert (hand["sex"], hand["sex_source"], hand["release"], hand["reason"]) == ("female", "header", RELEASE_ID, None)
    assert hand["age_months"] > BIAS_MONTHS[1]
    assert hand["interval_high_months"] - hand["age_months"] == pytest.approx(HALF_WIDTH_MONTHS, abs=0.01)
    assert set(hand["stages_ms"]) == {"decode", "segmentation", "enhancement", "regression", "cam", "total"}
    assert [black[key] for key in ("age_months", "interval_low_months", "interval_high_months")] == [None] * 3
    assert "contrast" in str(black["reason"])


def test_the_flag_wins_over_the_header(environment: dict[str, str], server: str, folder: Path) -> None:
    """A sex that the user gives is the one that is read with."""
    run = boneage(environment, "assess", folder / "c.dcm", "--sex", "unknown", "--json", "--server", server)
    [record] = records(run)
    assert (record["sex"], record["sex_source"]) == ("unknown", "flag")


def test_without_a_server_the_services_are_started_and_stopped(environment: dict[str, str], folder: Path) -> None:
    """One line of text for one file, and a warning of the size that is missing."""
    sizes = folder.parent / "sizes.csv"
    sizes.write_text("id,height,width\nother,10,10\n")
    run = boneage(environment, "assess", folder / "a" / "hand.png", "--sizes", sizes)
    assert run.returncode == 0, run.stderr
    [line] = run.stdout.splitlines()
    assert f"{folder / 'a' / 'hand.png'}  OK  " in line
    assert "90% interval" in line
    assert "read as stored: 1 image: hand" in run.stderr


def test_a_size_restores_the_aspect(environment: dict[str, str], server: str, tmp_path: Path) -> None:
    """A squashed picture with its true size is read like the picture that was never squashed."""
    true = np.rint(hand_picture(400, 250) * 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "true.png"), true)
    cv2.imwrite(str(tmp_path / "squashed.png"), cv2.resize(true, (250, 250), interpolation=cv2.INTER_AREA))
    (tmp_path / "sizes.csv").write_text("id,height,width\nsquashed,400,250\n")
    run = boneage(environment, "assess", tmp_path, "--sizes", tmp_path / "sizes.csv", "--json", "--server", server)
    squashed, whole = records(run)
    assert squashed["age_months"] == pytest.approx(whole["age_months"], abs=1)


def test_artifacts_have_the_size_of_the_input_and_nothing_of_the_header(
    environment: dict[str, str], server: str, folder: Path, tmp_path: Path
) -> None:
    """Subfolders are kept; what has no number has no map; a run again replaces what was there."""
    stale = tmp_path / "black.cam.png"
    stale.write_bytes(b"of another run")
    run = boneage(environment, "assess", folder, "--artifacts", tmp_path, "--server", server)
    assert run.returncode == 1, run.stderr
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"a/hand.mask.png", "a/hand.enhanced.png", "a/hand.cam.png", "a/hand.json", "b/hand.json"} <= names
    assert "c.mask.png" in names
    assert {"black.json", "empty.json"} <= names
    assert not {"black.cam.png", "empty.mask.png"} & names
    mask = cv2.imread(str(tmp_path / "c.mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == hand_picture().shape
    assert set(np.unique(mask)) == {0, 255}
    assert cv2.imread(str(tmp_path / "c.cam.png")).shape[:2] == mask.shape
    assert json.loads((tmp_path / "c.json").read_text())["status"] == "OK"
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "arguments",
    [
        ["assess"],
        ["assess", "/nowhere/hand.dcm"],
        ["assess", ".", "--sex", "other"],
        ["evaluate", "--images", ".", "--labels", "/nowhere.csv"],
        ["evaluate", "--images", ".", "--labels", "x.csv", "--split", "y.csv"],
        ["serve", "teeth"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_is_exit_code_2(environment: dict[str, str], arguments: list[str]) -> None:
    """Nothing is started, and the reason is on standard error, without a traceback."""
    run = boneage(environment, *arguments)
    assert run.returncode == 2
    assert run.stderr
    assert "Traceback" not in run.stderr


def test_colliding_artifacts_are_refused_before_the_start(environment: dict[str, str], tmp_path: Path) -> None:
    """Two files of one id: exit code 2, nothing written."""
    for name in ("1.png", "1.jpg"):
        (tmp_path / name).touch()
    run = boneage(environment, "assess", tmp_path, "--artifacts", tmp_path / "out")
    assert run.returncode == 2
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_not_there_fails_each_file(environment: dict[str, str], folder: Path) -> None:
    """The reason is in the record, and the exit code is 1."""
    run = boneage(environment, "assess", folder / "c.dcm", "--json", "--server", "127.0.0.1:1")
    assert run.returncode == 1
    [record] = records(run)
    assert record["status"] == "FAILED"
    assert record["reason"]


def test_a_labelled_folder_is_measured(environment: dict[str, str], server: str, folder: Path, tmp_path: Path) -> None:
    """Failures and abstentions are counted, figures have intervals, and files without a label are left out."""
    labels = tmp_path / "labels.csv"
    labels.write_text("id,boneage,male\na/hand,120,False\nc,130,True\nblack,60,True\nempty,20,True\nabsent,1,True\n")
    run = boneage(environment, "evaluate", "--images", folder, "--labels", labels, "--server", server, "--json")
    assert run.returncode == 0, run.stderr
    [record] = records(run)
    counts = {key: record[key] for key in ("n", "n_total", "failed", "abstained", "release")}
    assert counts == {"n": 2, "n_total": 4, "failed": 1, "abstained": 1, "release": RELEASE_ID}
    low, high = record["mae_months_ci95"]
    assert low <= record["mae_months"] <= high
    assert [band["n"] for band in record["by_age_band"]] == [0, 0, 2, 0, 0]


def test_only_the_part_that_was_asked_for_is_measured(
    environment: dict[str, str], server: str, folder: Path, tmp_path: Path
) -> None:
    """A split chooses the images; the figures are printed as a table."""
    (tmp_path / "labels.csv").write_text("id,boneage,male\na/hand,120,False\nc,130,True\n")
    (tmp_path / "split.csv").write_text("id,part\na/hand,test\nc,train\n")
    run = boneage(
        environment, "evaluate", "--images", folder, "--labels", tmp_path / "labels.csv", "--sex", "unknown",
        "--split", tmp_path / "split.csv", "--part", "test", "--server", server,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "MAE" in run.stdout
    assert "1 image: 1 read" in run.stderr


def test_the_demo_reads_own_files_and_writes_a_report(
    environment: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    """The table names each file, and the page is where it is said to be."""
    run = boneage({**environment, "COLUMNS": "200"}, "demo", "--images", folder / "a", "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "hand" in run.stdout
    assert f"report: {tmp_path / 'report.html'}" in run.stdout
    assert (tmp_path / "report.html").read_text().count("<img") == 4


def test_the_doctor_knows_a_running_server(environment: dict[str, str], server: str) -> None:
    """A sound machine with a server has no fault; an address where nobody answers is one."""
    well = boneage({**environment, "COLUMNS": "200"}, "doctor", "--server", server)
    assert well.returncode == 0, well.stdout
    assert boneage(environment, "doctor", "--server", "127.0.0.1:1").returncode == 1


def test_the_doctor_names_a_missing_model(environment: dict[str, str], tmp_path: Path) -> None:
    """An empty repository is a fault with its fix."""
    run = boneage({**environment, "BONEAGE_MODEL_REPOSITORY": str(tmp_path), "COLUMNS": "300"}, "doctor")
    assert run.returncode == 1
    assert "BONEAGE_MODEL_REPOSITORY" in run.stdout


def test_services_that_do_not_start_are_reported(environment: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """The last words of the service that ended are shown, and the others are stopped."""
    run = boneage({**environment, "BONEAGE_MODEL_REPOSITORY": str(tmp_path)}, "assess", folder / "c.dcm")
    assert run.returncode == 1
    assert "ended with exit code 1" in run.stderr
    assert "ReleaseError" in run.stderr
    assert run.stdout == ""


def test_one_service_takes_the_place_of_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    """`boneage serve NAME` becomes that service, which ends by itself on SIGTERM."""
    ready = tmp_path / "ready.json"
    own = {**environment, "BONEAGE_READY_FILE": str(ready), "BONEAGE_HTTP_PORT": "0"}
    command = [sys.executable, "-m", "services.cli", "serve", "segmentation", "--port", "0"]
    with subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if '"ready"' in line)
        assert "SegmentationService" in line
        assert ready.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_batch_and_all_its_services(
    environment: dict[str, str], folder: Path, number: signal.Signals
) -> None:
    """After the first answer the command is told to stop: exit code 128 + the signal, and no process is left."""
    many = [str(folder / "c.dcm")] * 500
    command = [sys.executable, "-m", "services.cli", "assess", *many]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert "OK" in process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(TIMEOUT_S) == 128 + number
    assert len(children) == 5
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_a_reader_that_goes_away_ends_a_batch_quietly(environment: dict[str, str], server: str, folder: Path) -> None:
    """As in `boneage assess ... | head -1`: no traceback."""
    many = [str(folder / "c.dcm")] * 200
    command = [sys.executable, "-m", "services.cli", "assess", *many, "--server", server]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(TIMEOUT_S) == 1
