"""The study of how many outlines a strategy needs: its statistics, its units, and its report."""

import fcntl
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.active_learning.learner import Outlines  # noqa: E402
from training.active_learning.simulation import agreement_with_error, outline_dice, rank, unet  # noqa: E402
from training.evaluation.label_study import Curve, labels_to_reach, paired, write_report  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402

COUNT = 14
PATIENCE_S = 400


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_are_shared_by_equals(values):
    """One more than how many are smaller, and half of the others that are equal."""
    ranks = rank(np.array(values, float))
    for value, found in zip(values, ranks, strict=True):
        smaller = sum(other < value for other in values)
        assert found == pytest.approx(smaller + (values.count(value) + 1) / 2)


def test_labels_needed_are_those_from_which_it_stays():
    """A curve that passes the target and falls below it again has not reached it yet."""
    assert labels_to_reach({4: 0.5, 8: 0.9, 12: 0.7, 16: 0.9, 20: 0.95}, 0.85) == 16
    assert labels_to_reach({4: 0.9, 8: 0.9}, 0.85) == 4
    assert labels_to_reach({4: 0.5, 8: 0.8}, 0.85) is None


def curve(arm, seed, level, *, correlation=None):
    """A run of two rounds on three test outlines."""
    dice = {4: np.array([level, level + 0.1, level - 0.1]), 8: np.array([level + 0.1] * 3)}
    return Curve("hands", arm, seed, dice, {4: correlation} if correlation else {})


def test_differences_are_paired_by_seed_and_outline():
    """Only the same seed of both is compared, outline by outline."""
    differences = paired([curve("a", 1, 0.7), curve("a", 2, 0.9)], [curve("b", 2, 0.5), curve("b", 3, 0.1)], 4)
    np.testing.assert_allclose(differences, [[0.4, 0.4, 0.4]])


def test_report_says_what_the_committee_saves(tmp_path):
    """It names what is missing, what is saved, and what the scores follow."""
    follows = {"dissimilarity": 0.25, "vote_entropy": 0.5, "entropy": -0.1}
    curves = [curve("committee", 1, 0.8, correlation=follows), curve("random", 1, 0.7)]
    curves.append(Curve("hands", "U-Net, all labels", 1, {40: np.array([0.9, 0.9, 0.9])}, {}))
    write_report(tmp_path, curves, planned=9, size_px=64)
    text = (tmp_path / "report.md").read_text()
    assert "3 of 9 runs are complete" in text
    assert "Random reaches 0.8000 with 8 labels" in text
    assert "- committee: 4, 4 fewer" in text
    assert "| committee | +0.1000 (+0.1000 to +0.1000) |" in text
    assert "| U-Net, all labels | 1 | 40 | 0.9000 |" in text
    assert "| dissimilarity (eq. 5 to 7) | +0.25 | +0.25 | +0.25 |" in text
    assert (tmp_path / "hands.png").stat().st_size > 1000


def test_agreement_with_error_is_a_correlation_of_each_measure():
    """Two members that were never trained disagree somehow; the figures are correlations, and the Dice is of masks."""
    rng = np.random.default_rng(0)
    images = rng.random((6, 32, 32)).astype(np.float32)
    masks = rng.random((6, 32, 32)) > 0.5
    members = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        members.append(FCDenseNet().eval())
    found = agreement_with_error(members, list(zip(images, masks, strict=True)))
    assert set(found) == {"dissimilarity", "vote_entropy", "entropy"}
    assert all(-1 <= value <= 1 for value in found.values())
    assert agreement_with_error(members, []) == {}
    scores = outline_dice(unet(0), Outlines.of(list(zip(images, masks, strict=True))))
    assert scores.shape == (6,)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.fixture
def project(tmp_path):
    """Fourteen outlined ellipses in noise, two of them for the test."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks/image", "masks/mask"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(COUNT):
        mask = np.zeros((90, 70), np.uint8)
        cv2.ellipse(mask, (35, 45), (int(rng.integers(12, 20)), int(rng.integers(22, 36))), 8, 0, 360, 255, -1)
        picture = np.clip(np.where(mask > 0, 170, 30) + rng.normal(0, 8, mask.shape), 0, 255).astype(np.uint8)
        for folder, image in (("images", picture), ("masks/image", picture), ("masks/mask", mask)):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    rows = ["id,boneage,male", *(f"{i},100,True" for i in range(COUNT))]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "split.csv").write_text("\n".join(["id,part", *(f"{i},train" for i in range(COUNT))]) + "\n")
    (tmp_path / "test.csv").write_text("id\n2\n3\n")
    return tmp_path


def job(project, **changes):
    """The job, to its end."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    radiographs = {"kind": "radiographs", "dataset": dataset, "masks": str(project / "masks"),
                   "test": str(project / "test.csv")}  # fmt: skip
    values = {
        "sets": {"ellipses": radiographs}, "selection_images": 2, "strategies": ["committee", "random"], "seeds": [1],
        "plan": {"strategy": "random", "members": 2, "start": 3, "per_round": 2, "maximum_labels": 5, "seed": 0,
                 "phases": [{"size_px": 64, "steps": 2, "batch_size": 2, "learning_rate": 0.001}],
                 "validate_every": 2, "size_px": 64},
        "out": str(project / "study"),
    } | changes  # fmt: skip
    (project / "study.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "training.jobs.label_study", "--config", str(project / "study.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_study_runs_what_is_missing_and_no_one_else_does(project):
    """A unit that another process holds is left to it; the next start does it, and nothing twice."""
    held = project / "study" / "runs" / "ellipses-committee-1"
    held.mkdir(parents=True)
    with (held / "claimed").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        first = job(project)
    assert first.returncode == 0, first.stderr
    assert "3 of 4 runs are complete" in (project / "study" / "report.md").read_text()
    assert not (held / "result.json").exists()
    done = project / "study" / "runs" / "ellipses-random-1" / "result.json"
    before = done.stat().st_mtime_ns
    second = job(project)
    assert second.returncode == 0, second.stderr
    assert "4 of 4 runs are complete" in (project / "study" / "report.md").read_text()
    assert done.stat().st_mtime_ns == before
    rounds = json.loads((held / "result.json").read_text())["rounds"]
    assert [entry["labels"] for entry in rounds] == [3, 5]
    assert all(len(entry["dice"]) == 2 for entry in rounds)
    assert set(rounds[0]["correlation"]) == {"dissimilarity", "vote_entropy", "entropy"}


def test_too_few_outlines_are_refused(project):
    """Exit code 64, and what is wrong."""
    refused = job(project, selection_images=9)
    assert refused.returncode == 64
    assert "too few for 5 labels and 9 to select with" in refused.stderr


def test_phantoms_are_a_set_too(project):
    """Drawn hands with their exact outlines, by configuration alone."""
    phantoms = {"kind": "phantoms", "count": 8, "test": 2, "height_px": 96}
    done = job(project, sets={"phantoms": phantoms}, strategies=["random"])
    assert done.returncode == 0, done.stderr
    assert "3 of 3 runs are complete" in (project / "study" / "report.md").read_text()
