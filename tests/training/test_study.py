"""The study of schedules: units of their own, a report from what is complete, differences paired by radiograph."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from pydantic import ValidationError  # noqa: E402

from tests.kills import kill_at_random, undisturbed  # noqa: E402
from tests.waiting import until  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.evaluation.seeds import interval, strict_interval  # noqa: E402
from training.evaluation.study import Arm, Outcome, Plan, differences, errors_of, matrix  # noqa: E402
from training.evaluation.study_report import write_report  # noqa: E402
from training.jobs.study import StudyConfig, run  # noqa: E402
from training.run.checkpoint import EVERY_S  # noqa: E402
from training.run.claim import claimed  # noqa: E402
from training.run.exits import BadConfigurationError, ExitCode  # noqa: E402

SIDE, COUNT = 64, 60
PATIENCE_S = 300


@pytest.fixture
def values(tmp_path):
    """A study of two arms, two cohorts and one seed on a few grey squares."""
    rng = np.random.default_rng(0)
    ages = rng.integers(12, 216, COUNT)
    images = np.clip(ages[:, None, None] + rng.normal(0, 8, (COUNT, SIDE, SIDE)), 1, 255).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), image)
    parts = ("train", "train", "validation", "calibration")
    labels = ["id,boneage,male", *(f"{i},{age},{bool(i % 3)}" for i, age in enumerate(ages))]
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    (tmp_path / "split.csv").write_text("\n".join(["id,part", *(f"{i},{parts[i % 4]}" for i in range(COUNT))]) + "\n")
    prepared = Rows.make(
        tmp_path / "hands", [str(i) for i in range(COUNT)], {"raw": ((SIDE, SIDE), "uint8")}, made_by="t"
    )
    prepared.write(np.arange(COUNT), raw=images)
    stage = {"trainable": [], "images": 32, "learning_rate": 0.01}
    halves = [stage | {"images": 16}, stage | {"trainable": ["exit"], "images": 16}]
    return {
        "source": {
            "dataset": {name.split(".")[0]: str(tmp_path / name) for name in ("images", "labels.csv", "split.csv")},
            "hands": str(tmp_path / "hands"), "side_px": SIDE,
        },
        "backbone": "mobilenetv3_small_050", "start_from": None,
        "schedules": {"head": [stage], "paced": halves},
        "arms": [{"name": n, "images": "raw", "schedule": n} for n in ("head", "paced")],
        "cohorts": ["all", "female"], "seeds": [1], "validation_images": 8, "precision": "fp32",
        "fitting": {"batch_size": 4, "validate_every": 16, "seed": 0},
        "kept": str(tmp_path / "kept"), "out": str(tmp_path / "study"),
    }  # fmt: skip


def test_a_study_is_done_unit_by_unit_and_reports_what_is_there(values, tmp_path):
    """A start may be bounded; the next one does the rest, and no unit twice."""
    run(StudyConfig(**values, runs_a_start=1))
    report = tmp_path / "study" / "report.md"
    first = next((tmp_path / "study" / "runs").iterdir())
    begun = (first / "errors.npz").stat().st_mtime_ns
    assert "1 of 4 runs are complete" in report.read_text()
    run(StudyConfig(**values))
    text = report.read_text()
    assert "4 of 4 runs are complete" in text
    assert re.search(r"\| head \| [+-]\d+\.\d\d \([+-]", text)
    assert "- female: it " in text
    assert (first / "errors.npz").stat().st_mtime_ns == begun
    with pytest.raises(BadConfigurationError, match="was made with another configuration"):
        run(StudyConfig(**values | {"fitting": values["fitting"] | {"weight_decay": 0.5}}))
    assert all(cv2.imread(str(tmp_path / "study" / name)) is not None for name in ("mae.png", "loss.png"))
    assert len(np.load(tmp_path / "study" / "runs" / "head-female-1" / "errors.npz")["ids"]) == 5


def command(values, tmp_path):
    """The study as a command."""
    path = tmp_path / f"{Path(values['out']).name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "training.jobs.study", "--config", str(path)]


def readings(folder):
    """What each run of a study came to."""
    found = {}
    for path in folder.glob("runs/*/errors.npz"):
        with np.load(path) as stored:
            found[path.parent.name] = {name: stored[name].tolist() for name in stored if name != "cpu_seconds"}
    return found


def test_killed_at_random_it_ends_with_the_same_figures(values, tmp_path, monkeypatch):
    """Every run reads as if nothing had been; with a state after every step there is always one to be killed at."""
    monkeypatch.setenv(EVERY_S, "0.01")
    seconds = undisturbed(command(values, tmp_path), tmp_path / "study")
    killed = command(values | {"out": str(tmp_path / "killed"), "kept": str(tmp_path / "kept-by-it")}, tmp_path)
    kill_at_random(killed, tmp_path / "killed", within_s=seconds, times=2)
    subprocess.run(killed, check=True, timeout=PATIENCE_S, stderr=subprocess.DEVNULL)
    assert readings(tmp_path / "killed") == readings(tmp_path / "study")
    assert len(readings(tmp_path / "study")) == 4


def test_a_run_is_gone_on_with_only_as_it_was_begun(values, tmp_path):
    """One that was stopped belongs to the schedule, the weights and the labels that it was begun with."""
    long = [{"trainable": [], "images": 20_000, "learning_rate": 0.01}]
    values |= {"schedules": {"head": long}, "arms": values["arms"][:1], "cohorts": ["all"]}
    process = subprocess.Popen(command(values, tmp_path), stderr=subprocess.DEVNULL)
    log = tmp_path / "study" / "runs" / "head-all-1" / "log.jsonl"
    asyncio.run(until(lambda: log.exists() and log.stat().st_size, timeout_s=PATIENCE_S))
    process.terminate()
    assert process.wait(PATIENCE_S) == ExitCode.INTERRUPTED
    dataset = values["source"]["dataset"] | {"label_column": "id"}
    others = (
        {"source": values["source"] | {"dataset": dataset}},
        {"schedules": {"head": [long[0] | {"learning_rate": 0.001}]}},
        {"start_from": str(tmp_path / "labels.csv")},
    )
    for changes in others:
        refused = subprocess.run(command(values | changes, tmp_path), capture_output=True, text=True, check=False)
        assert refused.returncode == ExitCode.BAD_CONFIGURATION
        assert "last.pt was made with another configuration" in refused.stderr
    prepared = Rows.read(tmp_path / "hands", write=True)
    prepared.done[5] = False
    fewer = subprocess.run(command(values, tmp_path), capture_output=True, text=True, check=False)
    assert fewer.returncode == ExitCode.BAD_CONFIGURATION
    assert "on other hands, labels or draws" in fewer.stderr
    prepared.done[5] = True
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace("0,", "0,1", 1))
    with pytest.raises(BadConfigurationError, match="on other hands, labels or draws"):
        run(StudyConfig(**values))


def test_a_verdict_needs_three_seeds(tmp_path):
    """Errors of two seeds are not told to hold for others."""
    rng = np.random.default_rng(0)
    for seeds, said in (((1, 2), "is not judged against head"), ((1, 2, 3), r"beats head \(-.* to -.*\)")):
        journal = [{"step": 4, "stage": 0.0, "loss": 1.0, "validation_mae_months": 9.0}]
        ids = np.arange(40).astype(str)
        outcomes = [
            Outcome(Arm(name, "raw", name), "all", seed, ids, rng.uniform(low, low + 4, 40), 9, 1.0, journal)
            for name, low in (("paced", 4), ("head", 9))
            for seed in seeds
        ]
        write_report(tmp_path, outcomes, Plan(6, 16, 4, "calibration", 12))
        assert re.search(rf"^- all: it {said}\.$", (tmp_path / "report.md").read_text(), re.MULTILINE)


def told_apart(rng, *, spreads, better_by):
    """Whether any of 8 arms, the same but for their seeds, is told from one that is better by so many months.

    Simulated, with 3 seeds of 300 radiographs, which are the same in each cohort; seeds of a cohort differ by a
    standard deviation out of `spreads`.
    """
    radiographs = rng.normal(0, 6, 300)

    def readings():
        return [rng.normal(0, sd, (3, 1)) + radiographs + rng.normal(0, 6, (3, 300)) for sd in spreads]

    first = readings()
    groups = [[ours - better_by - theirs for ours, theirs in zip(first, readings(), strict=True)] for _ in range(8)]
    ends = [strict_interval(*group, level=1 - 0.05 / 8) for group in groups]
    return any(low > 0 or high < 0 for low, high in ends)


@pytest.mark.parametrize("spreads", [(1,), (1, 1, 1, 1), (0.5, 0.5, 0.5, 8)])
def test_verdicts_are_seldom_wrong(spreads):
    """Of arms that differ in nothing but their seeds, few are told apart, of one cohort or over several."""
    rng = np.random.default_rng(0)
    assert sum(told_apart(rng, spreads=spreads, better_by=0) for _ in range(200)) <= 16
    assert strict_interval(*[np.full((3, 4), 2.0)] * len(spreads), level=0.95) == (2.0, 2.0)


def test_several_cohorts_decide_where_one_does_not():
    """An arm that is better by 3 months where seeds differ by 1: found over four cohorts, seldom in one of them."""
    rng = np.random.default_rng(0)
    found = {n: sum(told_apart(rng, spreads=(1,) * n, better_by=3) for _ in range(50)) for n in (1, 4)}
    assert found[4] >= 40
    assert found[1] <= found[4] / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedules": {"head": [], "paced": []}}, None),
        ({"arms": [{"name": "x", "images": "raw", "schedule": "y"}]}, "name no schedule"),
        ({"cohorts": ["adults"]}, "cohorts.0"),
    ],
)
def test_a_study_that_compares_nothing_is_refused(values, changes, message):
    """Before any run is begun."""
    if message is None:
        stage = {"trainable": [], "images": 32, "learning_rate": 0.01}
        changes, message = {"schedules": {"head": [stage], "paced": [stage, stage]}}, "different numbers of images"
    with pytest.raises(ValidationError, match=message):
        StudyConfig(**(values | changes))


def test_a_run_that_another_process_does_is_left_to_it(values, tmp_path):
    """Two processes share the runs between them, and no run is done twice."""
    config = StudyConfig(**values)
    with claimed(tmp_path / "study" / "runs" / "head-all-1") as ours:
        assert ours
        run(config)
    assert "3 of 4 runs are complete" in (tmp_path / "study" / "report.md").read_text()
    run(config)
    assert "4 of 4 runs are complete" in (tmp_path / "study" / "report.md").read_text()


def test_a_schedule_may_be_chosen_by_what_chooses_no_weights(values, tmp_path):
    """Of the validation part, those are reported that do not choose among states of the weights."""
    run(StudyConfig(**values | {"reported": "validation", "validation_images": 4}, runs_a_start=1))
    with np.load(tmp_path / "study" / "runs" / "head-all-1" / "errors.npz") as stored:
        assert len(stored["ids"]) == COUNT // 4 - 4
        assert all(int(name) % 4 == 2 for name in stored["ids"])
        assert stored["trained_on"] == COUNT // 2
        assert stored["cpu_seconds"] >= 0


def test_the_report_says_what_each_stage_did_and_what_the_paper_reports(values, tmp_path):
    """Images and error of each stage, differences of the cohorts, the paper's tables with rows of this study."""
    run(StudyConfig(**values | {"cohorts": ["all", "male", "female", "sex"]}))
    text = (tmp_path / "study" / "report.md").read_text()
    assert re.search(r"\| paced \| sex \| 16 to \d+\.\d; 16 to \d+\.\d \|", text)
    assert re.search(r"\| head \| [+-]\d+\.\d\d \([+-].* \| [+-]\d+\.\d\d \([+-].* \|", text)
    assert "| Iglovikov et al. | transfer learning | 12,611 |" in text
    assert re.search(r"\| this study, all \| paced \| 30 \| \d+\.\d\d \| 1\.07 \|", text)
    assert cv2.imread(str(tmp_path / "study" / "validation.png")) is not None


@given(
    arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 12)), elements=st.floats(0, 60)), st.floats(-5, 5)
)
def test_a_constant_difference_is_found_without_doubt(values, shift):
    """Pairing takes away what radiographs and seeds have in common."""
    one = {seed: {f"{index}": error for index, error in enumerate(row)} for seed, row in enumerate(values)}
    other = {seed: {name: error + shift for name, error in row.items()} | {"999": 1000.0} for seed, row in one.items()}
    assert interval(differences(other, one)) == pytest.approx((shift, shift, shift), abs=1e-9)


def test_only_seeds_that_both_have_are_compared():
    """A study that is not complete does not compare a good seed of one with a bad seed of the other."""
    one, other = {1: {"3": 4.0}, 2: {"3": 90.0}}, {1: {"3": 3.0}}
    assert differences(one, other).tolist() == [[1.0]]
    assert not differences(one, {3: {"3": 1.0}}).size


def test_seeds_that_disagree_widen_the_interval():
    """Many radiographs cannot make up for few seeds."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (3, 1000))
    _, low, high = interval(noise)
    _, lower, higher = interval(noise + np.array([[-2.0], [0.0], [2.0]]))
    assert higher - lower > 10 * (high - low)


def test_errors_are_kept_by_arm_cohort_seed_and_radiograph():
    """A radiograph that one of the seeds did not read is left out of the arm's figure."""
    arm = Arm("a", "raw", "s")
    outcomes = [
        Outcome(arm, "all", 1, np.array(["3", "5"]), np.array([2.0, 4.0]), 9, 1.0, []),
        Outcome(arm, "all", 2, np.array(["3"]), np.array([6.0]), 9, 1.0, []),
    ]
    assert matrix(errors_of(outcomes)["a", "all"]).tolist() == [[2.0], [6.0]]
