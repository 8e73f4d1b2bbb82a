"""Drawing the parts of somebody's own data set."""

import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
import yaml

from training.data.split import SHARES, read_split


@pytest.fixture
def project(tmp_path):
    """200 files with classes and a table that has one row more."""
    (tmp_path / "images").mkdir()
    for number in range(200):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.zeros((4, 4), np.uint8))
    rows = [f"{n},{'fracture' if n % 4 == 0 else 'none'}" for n in range(201)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,finding", *rows]) + "\n")
    (tmp_path / "train.csv").write_text("id\n5\n13\n")
    return tmp_path


def job(project, **changes):
    """The job, to its end."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    dataset |= {"label_column": "finding", "sex_column": None}
    values = {"dataset": dataset, "classes": ["fracture", "none"], "seed": 4} | changes
    (project / "split.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "training.jobs.split", "--config", str(project / "split.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_parts_are_drawn_by_class_once(project):
    """Each class has the shares; what must be in train is; a second run is refused and changes nothing."""
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    done = job(project, shares=shares, always_train=str(project / "train.csv"))
    assert done.returncode == 0, done.stderr
    assert "1 of 201 radiographs have a label and no file: 200" in done.stderr
    parts = read_split(project / "split.csv")
    assert len(parts) == 200
    assert {parts["5"], parts["13"]} == {"train"}
    fractures = Counter(part for id_, part in parts.items() if int(id_) % 4 == 0)
    assert fractures == {"train": 30, "validation": 10, "test": 10}
    again = job(project, seed=5)
    assert again.returncode == 64
    assert "is not drawn again" in again.stderr
    assert read_split(project / "split.csv") == parts


def test_classes_that_are_numbers_have_the_shares_too(project):
    """A rare one is in every part; where nobody says that they are classes, a label that is no age is refused."""
    rows = [f"{n},{int(n % 20 == 0)}" for n in range(200)]
    (project / "labels.csv").write_text("\n".join(["id,finding", *rows]) + "\n")
    shares = {"train": 0.6, "validation": 0.2, "test": 0.2}
    done = job(project, shares=shares, classes=["0", "1"])
    assert done.returncode == 0, done.stderr
    rare = Counter(part for id_, part in read_split(project / "split.csv").items() if int(id_) % 20 == 0)
    assert rare == {"train": 6, "validation": 2, "test": 2}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "0: 'fracture' is no age in months; where labels are classes, name them in classes"),
        (["fracture", "sclerosis"], "1: 'none' is none of the classes fracture, sclerosis"),
    ],
)
def test_a_label_that_is_no_class_is_refused(project, classes, message):
    """With the table, the radiograph and the label."""
    refused = job(project, classes=classes)
    assert refused.returncode == 64
    assert message in refused.stderr
    assert not (project / "split.csv").exists()


def with_patients(project, count):
    """A table of `count` radiographs, of which three in a row are of one patient; of the last nobody knows whose."""
    rows = [f"{n},{'fracture' if n % 4 == 0 else 'none'},{'' if n == count - 1 else n // 3}" for n in range(count)]
    (project / "labels.csv").write_text("\n".join(["id,finding,patient", *rows]) + "\n")


def test_a_patient_is_in_one_part_alone(project):
    """All radiographs of one, also of one of whom something must be in train."""
    with_patients(project, 200)
    done = job(project, patient_column="patient", always_train=str(project / "train.csv"))
    assert done.returncode == 0, done.stderr
    parts = read_split(project / "split.csv")
    of_patient = {n // 3: {parts[str(k)] for k in range(n, min(n + 3, 199))} for n in range(0, 199, 3)}
    assert all(len(found) == 1 for found in of_patient.values())
    assert of_patient[5 // 3] == of_patient[13 // 3] == {"train"}
    assert set(parts.values()) == {"train", "validation", "calibration", "test"}


def test_what_came_since_is_drawn_and_nothing_else(project):
    """What has a part keeps it; a patient's new radiograph goes to the others; a patient in two parts is refused."""
    with_patients(project, 100)
    assert job(project, patient_column="patient").returncode == 0
    before = read_split(project / "split.csv")
    with_patients(project, 200)
    refused = job(project, patient_column="patient")
    assert refused.returncode == 64
    assert "extend: true adds what is new" in refused.stderr
    done = job(project, patient_column="patient", extend=True)
    assert done.returncode == 0, done.stderr
    after = read_split(project / "split.csv")
    assert len(after) == 200
    assert {id_: after[id_] for id_ in before} == before
    assert after["99"] == after["100"] == after["101"]
    patients = {n // 3 if n < 199 else "nobody": after[str(n)] for n in range(200)}
    counts = Counter(patients.values())
    for part, share in SHARES.items():
        assert abs(counts[part] - share * len(patients)) <= 2
    (project / "split.csv").write_text("id,part\n0,train\n1,test\n")
    torn = job(project, patient_column="patient", extend=True)
    assert torn.returncode == 64
    assert "radiographs of one patient are in several parts: 0 in train, 1 in test" in torn.stderr
    assert (project / "split.csv").read_text() == "id,part\n0,train\n1,test\n"


def test_a_patient_whose_older_radiographs_lie_elsewhere_stays_in_their_part(project):
    """A batch has a folder of its own, the table is one; of what has no file nothing is drawn."""
    with_patients(project, 100)
    assert job(project, patient_column="patient").returncode == 0
    before = read_split(project / "split.csv")
    for number in range(100):
        (project / "images" / f"{number}.png").unlink()
    with_patients(project, 201)
    done = job(project, patient_column="patient", extend=True)
    assert done.returncode == 0, done.stderr
    after = read_split(project / "split.csv")
    assert {id_: after[id_] for id_ in before} == before
    assert sorted(map(int, after)) == list(range(200)), "the last has no file"
    assert after["99"] == after["100"] == after["101"]
    table = (project / "labels.csv").read_text().splitlines()
    (project / "labels.csv").write_text("\n".join([table[0], *table[150:]]) + "\n")
    done = job(project, patient_column="patient", extend=True)
    assert "149 of 200 radiographs have a part and no row, so that nobody knows whose they are: 0, 1" in done.stderr


def test_shares_that_are_not_whole_are_refused(project):
    """Before anything is read."""
    refused = job(project, shares={"train": 0.6, "test": 0.6})
    assert refused.returncode == 64
    assert "1 in all" in refused.stderr
    assert not (project / "split.csv").exists()
