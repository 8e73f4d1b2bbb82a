"""The `boneage` command on a release that tells classes apart."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.models import CLASSES, Variations, hand_picture, write_repository

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose services tell dark hands from bright ones."""
    root = write_repository(tmp_path_factory.mktemp("models"), Variations(classes=True))
    own = {key: value for key, value in os.environ.items() if not key.startswith("BONEAGE_")}
    return {**own, "BONEAGE_MODEL_REPOSITORY": str(root), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hands, three of them narrow so that their squares are darker, with two tables of labels."""
    folder = tmp_path_factory.mktemp("hands")
    rows = []
    for index in range(6):
        picture = hand_picture(320, 260 if index % 2 else 130)
        cv2.imwrite(str(folder / f"{index}.png"), np.rint(picture * 255).astype(np.uint8))
        rows.append((str(index), CLASSES[index % 2]))
    for name, table in (("labels.csv", rows), ("strange.csv", [(id_, "grey") for id_, _ in rows])):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("id", "shade"), *table])
    return folder


def boneage(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """How the command ends."""
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_a_record_has_classes_in_place_of_an_age(environment: dict[str, str], folder: Path) -> None:
    """JSON names every class with its probability; the age stays null."""
    done = boneage(environment, "assess", folder / "1.png", "--json")
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"], record["age_months"]) == (0, "OK", None)
    assert list(record["classes"]) == list(CLASSES)
    assert sum(c["probability"] for c in record["classes"].values()) == pytest.approx(1, abs=1e-2)
    assert any(c["in_set"] for c in record["classes"].values())


def test_a_line_says_the_classes(environment: dict[str, str], folder: Path) -> None:
    """For people: each class in percent, and the set."""
    (line,) = boneage(environment, "assess", folder / "1.png").stdout.splitlines()
    assert all(name in line for name in CLASSES)
    assert "%" in line
    assert "90% set:" in line
    assert "months" not in line


def test_a_labelled_folder_is_measured(environment: dict[str, str], folder: Path) -> None:
    """Accuracy, AUC and the coverage of the set, with their intervals; the three dark ones score lower."""
    arguments = ("evaluate", "--images", folder, "--labels", folder / "labels.csv", "--label-column", "shade")
    record = json.loads(boneage(environment, *arguments, "--json").stdout)
    assert (record["n"], record["n_total"], record["by_class"]) == (6, 6, {"dark": 3, "bright": 3})
    assert record["auc"] == 1.0
    assert 0 <= record["accuracy"] <= 1
    assert len(record["coverage_90_ci95"]) == 2
    table = boneage(environment, *arguments).stdout
    assert "area under the ROC curve" in table


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["labels.csv", "--label-column", "hue"], "lacks the column 'hue'"),
        (["strange.csv", "--label-column", "shade"], "'grey' is none of the release's classes dark, bright"),
        (["labels.csv", "--label-column", "shade", "--sex", "unknown"], "--sex goes with ages"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    environment: dict[str, str], folder: Path, arguments: list[str], told: str
) -> None:
    """A column or a class that is not there is wrong usage, and named."""
    table, *options = arguments
    done = boneage(environment, "evaluate", "--images", folder, "--labels", folder / table, *options)
    assert done.returncode == 2
    assert told in done.stderr


def test_ages_cannot_be_measured_on_classes(environment: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """Labels of ages against a release of classes: the message says what to name."""
    labels = tmp_path / "ages.csv"
    labels.write_text("id,boneage,male\n" + "".join(f"{index},100,True\n" for index in range(6)))
    done = boneage(environment, "evaluate", "--images", folder, "--labels", labels)
    assert done.returncode == 2
    assert "--label-column" in done.stderr


def test_the_report_shows_classes(environment: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """The demo on own files writes each class with its probability."""
    done = boneage(environment, "demo", "--images", folder, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bright" in done.stdout
    (page,) = tmp_path.rglob("*.html")
    text = page.read_text()
    assert "Where the answer came from" in text
    assert "the 90% set" in text
