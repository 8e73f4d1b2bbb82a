"""Drawing the parts of somebody's own data set."""

import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
import yaml

from training.data.split import read_split


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
    values = {"dataset": dataset | {"label_column": "finding", "sex_column": None}, "seed": 4} | changes
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


def test_shares_that_are_not_whole_are_refused(project):
    """Before anything is read."""
    refused = job(project, shares={"train": 0.6, "test": 0.6})
    assert refused.returncode == 64
    assert "1 in all" in refused.stderr
    assert not (project / "split.csv").exists()
