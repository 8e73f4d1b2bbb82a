"""Active learning as a job: rounds, oracles that take their time, kills, and what is wrong in its configuration."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.kills import kill_at_random, undisturbed  # noqa: E402
from tests.training.ellipses import draw_ellipses, leave_outlines  # noqa: E402
from training.active_learning.oracles import Folder, merged  # noqa: E402
from training.active_learning.rounds import Rounds  # noqa: E402
from training.run.checkpoint import EVERY_S  # noqa: E402
from training.run.exits import ExitCode  # noqa: E402

COUNT = 20
HELD = ("0", "1", "2", "3")
PATIENCE_S = 300


@pytest.fixture
def project(tmp_path):
    """Twenty outlined ellipses in noise; 2 select, 2 test, the others may be asked."""
    return draw_ellipses(tmp_path, COUNT, selection=(0, 1), test=(2, 3))


def command(project, *, plan=None, **changes):
    """The job as a command."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    values = {
        "dataset": dataset, "masks": str(project / "masks"), "selection": str(project / "selection.csv"),
        "test": str(project / "test.csv"), "out": str(project / "out"),
        "oracle": {"kind": "ground_truth", "masks": str(project / "masks" / "mask")},
        "plan": {
            "strategy": "committee", "members": 2, "start": 4, "per_round": 3, "maximum_labels": 10, "patience": 9,
            "phases": [{"size_px": 64, "steps": 2, "batch_size": 2, "learning_rate": 0.001}], "validate_every": 2,
            "seed": 1, "size_px": 64,
        } | (plan or {}),
    } | changes  # fmt: skip
    (project / "job.yaml").write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "training.jobs.active_learning", "--config", str(project / "job.yaml")]


def job(project, **changes):
    """The job, to its end."""
    return subprocess.run(command(project, **changes), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def rounds(project):
    """Figures of the rounds."""
    return [json.loads(path.read_text()) for path in sorted((project / "out").glob("round-*/figures.json"))]


def column(path, name):
    """One column of a CSV file."""
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_rounds_ask_until_the_budget_is_spent(project):
    """Each run does one round; every pool image is scored once, the highest are asked, nothing held back ever is."""
    for _ in range(4):
        done = job(project)
        assert done.returncode == 0, done.stderr
    figures = rounds(project)
    assert [entry["labels"] for entry in figures] == [4, 7, 10]
    assert [entry["converged"] for entry in figures] == [False, False, True]
    start = column(project / "out" / "start.csv", "id")
    for number, asked_before in ((0, start), (1, start + column(project / "out" / "round-00" / "query.csv", "id"))):
        folder = project / "out" / f"round-{number:02d}"
        ids, scores = column(folder / "scores.csv", "id"), column(folder / "scores.csv", "dissimilarity")
        assert sorted(ids) == sorted({str(i) for i in range(4, COUNT)} - set(asked_before))
        ordered = [id_ for _, id_ in sorted(zip(scores, ids, strict=True), key=lambda pair: -float(pair[0]))]
        assert column(folder / "query.csv", "id") == ordered[:3]
    assert (project / "out" / "labels.png").stat().st_size > 1000


def test_people_may_take_their_time(project):
    """Questions and suggestions go out as files; until all answers are there the job says how many are awaited."""
    oracle = {"kind": "folder", "folder": str(project / "desk"), "annotators": 2}
    outlines = leave_outlines(project, HELD)
    awaited = job(project, oracle=oracle)
    assert awaited.returncode == ExitCode.WAITING_FOR_LABELS
    assert "4 outlines are awaited" in awaited.stderr
    asked = column(project / "out" / "start.csv", "id")
    assert {path.name for path in (project / "desk" / "questions").iterdir()} == {
        f"{id_}{suffix}.png" for id_ in asked for suffix in ("", ".suggestion")
    }
    for annotator in ("ada", "eve"):
        (project / "desk" / "answers" / annotator).mkdir()
        for id_ in asked[: 4 if annotator == "ada" else 3]:
            shutil.copy(outlines / f"{id_}.png", project / "desk" / "answers" / annotator)
    assert "1 outlines are awaited" in job(project, oracle=oracle).stderr
    log = project / "out" / "answers.csv"
    log.write_text(log.read_text().partition("\n")[2])  # as it was written before it had a header
    shutil.copy(outlines / f"{asked[3]}.png", project / "desk" / "answers" / "eve")
    done = job(project, oracle=oracle)
    assert done.returncode == 0, done.stderr
    assert rounds(project)[0]["labels"] == 4
    header, *answers = log.read_text().split()
    assert header == "id,annotators,agreement"
    assert sorted(answers) == sorted(f"{id_},2,1.0000" for id_ in asked)
    assert len(list((project / "desk" / "questions").iterdir())) == 2 * (4 + 3)


def test_what_nobody_can_outline_is_replaced_and_asked_no_more(project):
    """Skipped of the first four, another is asked for; skipped later, the round has less, and neither is scored."""
    oracle = {"kind": "folder", "folder": str(project / "desk")}
    answers, outlines = project / "desk" / "answers", leave_outlines(project, HELD)
    job(project, oracle=oracle)
    first = column(project / "out" / "start.csv", "id")
    for id_ in first[1:]:
        shutil.copy(outlines / f"{id_}.png", answers)
    (answers / f"{first[0]}.skipped").touch()
    replaced = job(project, oracle=oracle)
    assert f"nothing to outline is seen in {first[0]}" in replaced.stderr
    assert "1 outlines are awaited" in replaced.stderr
    (instead,) = column(project / "out" / "start.csv", "id")[4:]
    shutil.copy(outlines / f"{instead}.png", answers)
    done = job(project, oracle=oracle)
    assert done.returncode == 0, done.stderr
    assert rounds(project)[0] | {"labels": 4, "declined": 1} == rounds(project)[0]
    assert first[0] not in column(project / "out" / "round-00" / "scores.csv", "id")
    query = column(project / "out" / "round-00" / "query.csv", "id")
    (answers / f"{query[0]}.skipped").touch()
    for id_ in query[1:]:
        shutil.copy(outlines / f"{id_}.png", answers)
    again = job(project, oracle=oracle)
    assert again.returncode == 0, again.stderr
    assert rounds(project)[1] | {"labels": 4 + len(query) - 1, "declined": 2} == rounds(project)[1]
    assert sorted(column(project / "out" / "declined.csv", "id")) == sorted([first[0], query[0]])


def test_outlines_that_are_there_are_learnt_from_and_not_asked_for(project):
    """The first round takes all of them, asks for what it lacks to begin with, and scores only what has none."""
    oracle = {"kind": "folder", "folder": str(project / "desk")}
    given = ("5", "8", "11")
    outlines = leave_outlines(project, (*HELD, *given))
    assert "1 outlines are awaited" in job(project, oracle=oracle).stderr
    *begun, drawn = column(project / "out" / "start.csv", "id")
    assert (sorted(begun, key=int), drawn in given) == (list(given), False)
    assert {path.name for path in (project / "desk" / "questions").iterdir()} == {
        f"{drawn}.png", f"{drawn}.suggestion.png"
    }  # fmt: skip
    shutil.copy(outlines / f"{drawn}.png", project / "desk" / "answers")
    done = job(project, oracle=oracle)
    assert done.returncode == 0, done.stderr
    assert rounds(project)[0]["labels"] == 4
    scored = column(project / "out" / "round-00" / "scores.csv", "id")
    assert sorted(scored, key=int) == [str(i) for i in range(4, COUNT) if str(i) not in {*given, drawn}]
    refused = job(project, oracle=oracle, out=str(project / "other"), plan={"maximum_labels": 3})
    assert refused.returncode == 64
    assert "3 radiographs are outlined already, and plan.maximum_labels is 3" in refused.stderr


def test_killed_round_ends_as_if_it_had_not_been(project, tmp_path):
    """Members and scores that are there are not made again; the query is the same."""
    assert job(project).returncode == 0
    folder = project / "out" / "round-00"
    query, scores = (folder / "query.csv").read_text(), (folder / "scores.csv").read_text()
    for name in ("figures.json", "query.csv"):
        (folder / name).unlink()
    (folder / "scores.csv").write_text(scores[: len(scores) // 2])
    (folder / "member-1" / "weights.pt").unlink()
    trained = (folder / "member-0" / "weights.pt").stat().st_mtime_ns
    assert job(project).returncode == 0
    assert (folder / "query.csv").read_text() == query
    assert sorted((folder / "scores.csv").read_text().split()) == sorted(scores.split())
    assert (folder / "member-0" / "weights.pt").stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    ("strategy", "looked_at"), [("committee", "scores.csv"), ("coreset", "embeddings/embedding.bin")]
)
def test_killed_at_random_it_ends_as_if_it_had_not_been(project, strategy, looked_at, monkeypatch):
    """Two rounds in one run: the same questions, looks at the pool, answers, figures and weights as without a kill."""
    monkeypatch.setenv(EVERY_S, "0.01")
    two = {"plan": {"strategy": strategy, "maximum_labels": 7}, "rounds": 2}
    seconds = undisturbed(command(project, **two), project / "out")
    killed = two | {"out": str(project / "killed")}
    kill_at_random(command(project, **killed), project / "killed", within_s=seconds, times=2)
    done = job(project, **killed)
    assert done.returncode == 0, done.stderr
    first = (f"round-00/{name}" for name in ("figures.json", looked_at, "query.csv"))
    for name in ("start.csv", "answers.csv", *first, "round-01/figures.json"):
        assert (project / "killed" / name).read_bytes() == (project / "out" / name).read_bytes(), name
    for place in (f"round-01/member-{member}/weights.pt" for member in range(2)):
        whole, resumed = (torch.load(project / out / place, weights_only=True)["model"] for out in ("out", "killed"))
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_rounds_that_others_are_to_be_compared_with_keep_their_outlines(project):
    """An outline that selects is another by now: the run does not go on, and says of which."""
    assert job(project).returncode == 0
    path = project / "masks" / "mask" / f"{column(project / 'selection.csv', 'id')[0]}.png"
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(path), np.roll(mask, 3, axis=1))
    refused = job(project)
    assert refused.returncode == 64
    assert "was begun with other outlines of selection than there are now" in refused.stderr
    cv2.imwrite(str(path), mask)
    assert job(project).returncode == 0


def test_broken_radiograph_is_named_and_never_asked(project):
    """It is left out of the pool, aloud."""
    (project / "images" / "9.png").write_bytes(b"")
    done = job(project, plan={"strategy": "random", "members": 1})
    assert done.returncode == 0, done.stderr
    assert "1 of 16 radiographs cannot be read: 9" in done.stderr
    alone = rounds(project)[0]
    assert alone["dice_members"] == pytest.approx(alone["dice_committee"]), "a committee of one is that one"


@pytest.mark.parametrize(
    ("plan", "changes", "message"),
    [
        ({"members": 1}, {}, "a committee has at least 2 members"),
        ({"strategy": "mc_dropout"}, {}, "needs a share of dropout"),
        ({"start": 17}, {}, "too few to begin with 17 outlines"),
        ({}, {"oracle": {"kind": "crowd"}}, "crowd"),
    ],
)
def test_wrong_configuration_ends_with_its_reason(project, plan, changes, message):
    """Exit code 64, and what is wrong."""
    refused = job(project, plan=plan, **changes)
    assert refused.returncode == 64, refused.stderr
    assert message in refused.stderr


def test_run_that_was_begun_otherwise_is_not_gone_on_with(project):
    """A plan that changes between rounds would make them incomparable."""
    assert job(project, plan={"strategy": "random"}).returncode == 0
    refused = job(project, plan={"strategy": "entropy"})
    assert refused.returncode == 64
    assert "was begun with another plan.strategy" in refused.stderr


def test_annotators_may_draw_at_different_sizes():
    """The others are brought to the size of the first."""
    one, other = np.zeros((40, 30), bool), np.zeros((80, 60), bool)
    one[10:30], other[20:60] = True, True
    answer = merged([one, other])
    assert np.array_equal(answer.mask, one)
    assert (answer.annotators, answer.agreement) == (2, 1.0)


def test_one_person_is_one_annotator(tmp_path):
    """Who skips a question and outlines it all the same has said one thing; with another's outline there are two."""
    desk, mask = Folder(tmp_path, annotators=2), np.zeros((40, 30), np.uint8)
    mask[10:30] = 255
    for name in ("ada", "ben"):
        (tmp_path / "answers" / name).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "answers/ada/1.png"), mask)
    (tmp_path / "answers/ada/1.skipped").touch()
    assert desk.answers(["1"]) == {}
    (tmp_path / "answers/ben/1.skipped").touch()
    assert desk.answers(["1"])["1"].annotators == 1
    cv2.imwrite(str(tmp_path / "answers/ben/1.png"), mask)
    assert desk.answers(["1"])["1"].annotators == 2


def test_rounds_are_in_order_however_many_there_are(tmp_path):
    """The hundredth comes after the ninety-ninth: by these figures it is told whether the committee has converged."""
    for number in range(103):
        (tmp_path / f"round-{number:02d}").mkdir()
        (tmp_path / f"round-{number:02d}" / "figures.json").write_text(json.dumps({"round": number}))
    learning = Rounds(tmp_path, None, [], None, None, None, None)
    assert [entry["round"] for entry in learning.done()] == list(range(103))


def test_several_annotators_are_merged():
    """What half of them or more have covered, and how far they agree."""
    a, b, c = np.zeros((3, 4, 4), bool)
    a[:2], b[:2], c[1:3] = True, True, True
    answer = merged([a, b, c])
    assert np.array_equal(answer.mask, a)
    assert answer.annotators == 3
    assert answer.agreement == pytest.approx((1 + 0.5 + 0.5) / 3)
