"""The study of how many outlines a strategy needs: its units, what they are made with, and its report."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.kills import kill_at_random, undisturbed  # noqa: E402
from tests.training.ellipses import draw_ellipses  # noqa: E402
from training.active_learning.simulation import agreement, new_segmenter, outline_dice  # noqa: E402
from training.data import phantom  # noqa: E402
from training.evaluation.label_curves import Agreement, Curve  # noqa: E402
from training.evaluation.label_study import Progress, write_report  # noqa: E402
from training.jobs.label_study import Phantoms  # noqa: E402
from training.run.checkpoint import EVERY_S  # noqa: E402

COUNT = 14
PATIENCE_S = 400


def curve(arm, seed, level, *, labels=(4, 8), agreement=()):
    """A run of two rounds and one member, on three test outlines; in the second it has risen by 0.1."""
    first = np.array([[level, level + 0.1, level - 0.1]])
    dice = np.stack([first, first + 0.1])
    return Curve("hands", arm, seed, labels, (10, 20), dice, dice[:, 0], agreement, cpu_seconds=1800.0)


def test_report_says_what_the_committee_saves(tmp_path):
    """What is missing and what it took, paired figures, the paper's comparison, and what the scores follow."""
    errors, order = np.array([[0.1, 0.2, 0.3]]), np.arange(3.0)
    follows = Agreement(
        ("5", "6", "7"), errors, {"dissimilarity": order, "vote_entropy": -order, "entropy": np.ones(3)}
    )
    curves = [
        curve("committee", 1, 0.8, agreement=(follows, follows)), curve("committee", 2, 0.2, agreement=(follows,)),
        curve("mc_dropout", 1, 0.6), curve("random", 1, 0.7), curve("random_dropout", 1, 0.65),
        curve("first_labels", 1, 0.7, labels=(4, 4)), curve("unet_all", 1, 0.85, labels=(40, 40)),
    ]  # fmt: skip
    write_report(tmp_path, curves, Progress(9, 4 * 3600, 12), size_px=64)
    text = (tmp_path / "report.md").read_text()
    assert "7 of 9 runs are complete" in text
    assert "4.00 hours of one core, of 12" in text
    assert "| committee | random | +0.1000 (+0.1000 to +0.1000) | +0.1000 (+0.1000 to +0.1000) |" in text
    assert "| mc_dropout | random with dropout | -0.0500 (-0.0500 to -0.0500) |" in text
    assert "| random | first outlines only | +0.0000 (+0.0000 to +0.0000) |" in text
    assert "| FC-DenseNet, committee | U-Net, all outlines | 8 against 40 | 1 | -0.0500 (-0.0500 to -0.0500) |" in text
    assert "| dissimilarity (eq. 5 to 7) | +1.00 (" in text
    assert "| vote entropy | -1.00 (" in text
    assert "| entropy | - | - | - |" in text
    assert cv2.imread(str(tmp_path / "hands.png")) is not None


def test_report_of_one_run_alone_is_a_report(tmp_path):
    """Whatever is complete first."""
    write_report(tmp_path, [curve("unet_all", 1, 0.8, labels=(40, 40))], Progress(9, 60, 12), size_px=64)
    assert "| U-Net, all outlines | 1 | 40 | 0.8000 | 0.9000 |" in (tmp_path / "report.md").read_text()


def test_scores_are_kept_beside_the_errors_of_each_member():
    """Of two members that were never trained: one value an image, the Dice of masks."""
    rng = np.random.default_rng(0)
    pairs = list(zip(rng.random((6, 32, 32)).astype(np.float32), rng.random((6, 32, 32)) > 0.5, strict=True))
    members = [new_segmenter("fcdensenet", seed) for seed in (1, 2)]
    found = agreement(members, pairs)
    assert {measure: len(scores) for measure, scores in found["scores"].items()} == dict.fromkeys(
        ("dissimilarity", "vote_entropy", "entropy"), 6
    )
    own, together = outline_dice(members, pairs)
    np.testing.assert_allclose(1 - own, found["errors"], atol=1e-5)
    np.testing.assert_array_equal(outline_dice(members[1:], pairs)[0][0], own[1])
    assert together.shape == (6,)
    assert outline_dice([new_segmenter("unet", 0)], pairs)[0].shape == (1, 6)


@pytest.fixture
def project(tmp_path):
    """Fourteen outlined ellipses in noise, two of them for the test."""
    return draw_ellipses(tmp_path, COUNT, test=(2, 3))


def command(project, *, masks="masks", **changes):
    """The job's command line."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    radiographs = {"kind": "radiographs", "dataset": dataset, "masks": str(project / masks),
                   "test": str(project / "test.csv")}  # fmt: skip
    values = {
        "sets": {"ellipses": radiographs}, "selection_images": 2, "strategies": ["committee", "random"], "seeds": [1],
        "plan": {"strategy": "random", "members": 2, "start": 3, "per_round": 2, "maximum_labels": 5, "seed": 0,
                 "phases": [{"size_px": 64, "steps": 2, "batch_size": 2, "learning_rate": 0.001}],
                 "validate_every": 2, "size_px": 64},
        "out": str(project / "study"),
    } | changes  # fmt: skip
    (project / "study.yaml").write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "training.jobs.label_study", "--config", str(project / "study.yaml")]


def job(project, **changes):
    """The job, to its end."""
    asked = command(project, **changes)
    return subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def results(project):
    """What complete units kept, by name."""
    paths = (project / "study" / "runs").glob("*/result.json")
    return {path.parent.name.split("-")[1]: json.loads(path.read_text()) for path in paths}


def report(project):
    """The report as it stands."""
    return (project / "study" / "report.md").read_text()


def test_study_runs_what_is_missing_and_no_one_else_does(project):
    """A unit that another process holds is left to it; the next start does it, and nothing twice."""
    held = project / "study" / "runs" / "ellipses-committee-1"
    held.mkdir(parents=True)
    with (held / "claimed").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        first = job(project)
    assert first.returncode == 0, first.stderr
    assert "4 of 5 runs are complete" in report(project)
    assert not (held / "result.json").exists()
    done = project / "study" / "runs" / "ellipses-random-1" / "result.json"
    before = done.stat().st_mtime_ns
    second = job(project)
    assert second.returncode == 0, second.stderr
    assert "5 of 5 runs are complete" in report(project)
    assert done.stat().st_mtime_ns == before
    assert sorted(path.name for path in held.iterdir()) == ["claimed", "result.json"]


def test_arms_differ_in_what_they_learn_from_and_in_nothing_else(project):
    """All begin with the same network, learn as many steps, and keep what they asked for and each member's Dice."""
    done = job(project, strategies=["committee", "mc_dropout", "random"])
    assert done.returncode == 0, done.stderr
    found = {arm: result["rounds"] for arm, result in results(project).items()}
    assert set(found) == {
        "committee", "mc_dropout", "random", "random_dropout", "first_labels", "fcdensenet_all", "unet_all",
    }  # fmt: skip
    for arm, rounds in found.items():
        assert [entry["steps"] for entry in rounds] == [2, 4]
        members = 2 if arm == "committee" else 1
        assert all(np.array(entry["dice"]).shape == (members, 2) for entry in rounds)
    for one, other in (("committee", "random"), ("first_labels", "random"), ("mc_dropout", "random_dropout")):
        assert found[one][0]["dice"][0] == found[other][0]["dice"][0]
        assert found[one][0]["asked"] == found[other][0]["asked"]
    assert found["random"][1]["asked"] == found["random_dropout"][1]["asked"]
    asked = [id_ for entry in found["committee"] for id_ in entry["asked"]]
    assert len(set(asked)) == 5
    assert set(asked) <= {str(i) for i in range(COUNT)} - {"2", "3"}
    assert [entry["labels"] for entry in found["committee"]] == [3, 5]
    assert [entry["labels"] for entry in found["first_labels"]] == [3, 3]
    assert [entry["labels"] for entry in found["unet_all"]] == [10, 10]
    assert set(found["committee"][0]["agreement"]["scores"]) == {"dissimilarity", "vote_entropy", "entropy"}
    assert np.array(found["committee"][0]["agreement"]["errors"]).shape == (2, 7)
    assert all(result["cpu_seconds"] > 0 for result in results(project).values())


def test_results_of_another_configuration_are_refused(project):
    """Exit code 64, and which; it is the outlines that count, not where they lie."""
    assert job(project, strategies=["random"]).returncode == 0
    changed = job(project, strategies=["random"], selection_images=1)
    assert changed.returncode == 64
    assert "was made with another configuration, in another precision, on other outlines" in changed.stderr
    (project / "masks").rename(project / "moved")
    elsewhere = job(project, strategies=["random"], masks="moved")
    assert elsewhere.returncode == 0, elsewhere.stderr
    mask = np.zeros((90, 70), np.uint8)
    mask[20:60, 20:50] = 255
    cv2.imwrite(str(project / "moved" / "mask" / "5.png"), mask)
    assert job(project, strategies=["random"], masks="moved").returncode == 64


def test_what_another_configuration_began_is_not_gone_on_with(project):
    """Neither a run nor the first round that runs share."""
    assert job(project, strategies=["random"]).returncode == 0
    before = results(project)["random"]
    for path in (project / "study" / "runs").glob("*/result.json"):
        path.unlink()
    assert job(project, strategies=["random"], selection_images=1).returncode == 0
    after = results(project)["random"]
    assert after["made_with"] != before["made_with"]
    assert len(list((project / "study" / "beginnings").iterdir())) == 2


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
    assert "4 of 4 runs are complete" in report(project)


def test_other_phantoms_are_another_set(tmp_path, monkeypatch):
    """So are as many that other code draws."""
    phantoms = Phantoms(8, 2)
    digest = phantoms.digest()
    assert len({digest, Phantoms(8, 3).digest(), Phantoms(8, 2, height_px=96).digest()}) == 3
    copied = shutil.copytree(phantom.__path__[0], tmp_path / "phantom")
    monkeypatch.setattr(phantom, "__path__", [str(copied)])
    assert phantoms.digest() == digest
    (copied / "drawing.py").write_text((copied / "drawing.py").read_text() + "# other code\n")
    assert phantoms.digest() != digest


def test_a_last_round_that_leaves_nobody_to_ask_is_one(project):
    """No score is left to be held against an error; the report is of the rounds before."""
    plan = yaml.safe_load(Path(command(project)[-1]).read_text())["plan"]
    done = job(project, strategies=["committee"], plan=plan | {"per_round": 7, "maximum_labels": 10})
    assert done.returncode == 0, done.stderr
    assert ["agreement" in entry for entry in results(project)["committee"]["rounds"]] == [True, False]


def test_killed_at_random_it_ends_with_the_same_results(project, monkeypatch):
    """Every play asks for the same outlines and reaches the same Dice, to the digit; states are kept at every step."""
    monkeypatch.setenv(EVERY_S, "0.01")
    settings = {"strategies": ["committee"]}
    seconds = undisturbed(command(project, **settings), project / "study")
    undisturbed_results = results(project)
    (project / "study").rename(project / "undisturbed")
    kill_at_random(command(project, **settings), project / "study", within_s=seconds, times=2)
    undisturbed(command(project, **settings), project / "study")
    for name, result in results(project).items():
        assert result["rounds"] == undisturbed_results[name]["rounds"]
    assert len(undisturbed_results) == len(results(project)) == 4
