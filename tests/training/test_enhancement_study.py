"""The study of enhancement as a job: what it measures, what it names and leaves out, killed and gone on with."""

import asyncio
import csv
import json
import random
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.training.drawn_hand import SIDE, hand  # noqa: E402
from tests.waiting import until  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.degrade import KINDS  # noqa: E402
from training.evaluation.gate_figures import AS_SERVED, AT_FALSE_ALARMS, figures_for_card  # noqa: E402
from training.jobs.enhancement_study import EnhancementStudyConfig, run  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.run.journal import read_journal  # noqa: E402

PATIENCE_S = 400
BACKBONE = "mobilenetv3_small_050"
BROKEN_FILE, BROKEN_MAP, NO_BONE, NOT_PREPARED = "0", "1", "2", "7"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Eight hands of the validation part, prepared, with maps, and models that were never trained.

    One radiograph cannot be read, one map neither, one has no bone on it, and one hand was not prepared.
    """
    folder = tmp_path_factory.mktemp("project")
    for name in ("images", "regions"):
        (folder / name).mkdir()
    ids = [str(i) for i in range(8)]
    image, bone = hand()
    grey = np.rint(image * 255).astype(np.uint8)
    regions = np.where(bone, 2, (image > 0).astype(int)).astype(np.uint8)
    for id_ in ids:
        cv2.imwrite(str(folder / "images" / f"{id_}.png"), np.maximum(grey, 10))
        cv2.imwrite(str(folder / "regions" / f"{id_}.png"), np.minimum(regions, 1) if id_ == NO_BONE else regions)
    (folder / "images" / f"{BROKEN_FILE}.png").write_bytes(b"no image")
    (folder / "regions" / f"{BROKEN_MAP}.png").write_bytes(b"no map")
    (folder / "labels.csv").write_text("\n".join(["id,boneage,male", *(f"{i},{60 + int(i)},True" for i in ids)]) + "\n")
    (folder / "split.csv").write_text("\n".join(["id,part", *(f"{i},validation" for i in ids)]) + "\n")
    rows = Rows.make(folder / "hands", ids, {"segmented": ((SIDE, SIDE), "uint8")}, made_by="test")
    there = np.array([int(i) for i in ids if i != NOT_PREPARED])
    darker = [np.rint(grey * (1 - row / 20)).astype(np.uint8) for row in there]
    rows.write(there, segmented=np.stack(darker))
    torch.manual_seed(0)
    for name, network in (("segmenter", FCDenseNet()), ("enhancer", UNetGenerator()),
                          ("regressor", TransferNetwork(BACKBONE, 3))):  # fmt: skip
        torch.save({"model": network.state_dict()}, folder / f"{name}.pt")
    return folder


def settings(project, **changes):
    """The configuration, with changes."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    return {
        "dataset": dataset, "hands": str(project / "hands"), "segmenter": str(project / "segmenter.pt"),
        "enhancers": {"new": str(project / "enhancer.pt")}, "regressor": str(project / "regressor.pt"),
        "backbone": BACKBONE, "regions": str(project / "regions"), "limit": 0.45, "images": 5,
        "variants": 2, "region_images": 8, "seed": 1, "out": str(project / "out"),
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def study(project):
    """A study that nobody disturbed, in `out`."""
    run(EnhancementStudyConfig.model_validate(settings(project)))
    return project / "out"


def test_job_measures_every_method(project, study):
    """A table of each question, with nothing, CLAHE and the enhancer with and without its gate, and differences."""
    figures = json.loads((study / "figures.json").read_text())
    methods = ["nothing", "CLAHE", "new", "new, gated"]
    compared = [*figures["restoration"].values(), *figures["mae_months"].values(), figures["contrast_to_noise"]]
    for columns in figures["by_kind"].values():
        assert list(columns) == list(KINDS)
        compared += columns.values()
    for comparison in compared:
        assert list(comparison["methods"]) == methods
        assert list(comparison["differences"]) == [
            "CLAHE against nothing", "new against nothing", "new, gated against nothing", "new, gated against new"
        ]  # fmt: skip
    assert figures["restoration"]["psnr_undegraded_db"]["methods"]["nothing"]["mean"] == pytest.approx(100)
    report = (study / "report.md").read_text()
    assert all(f"| {method} |" in report for method in methods)
    assert "- new was trained for: nothing beside its weights says what for" in report
    for picture in ("examples.png", "kinds.png"):
        assert (study / picture).stat().st_size > 1000


def test_job_leaves_the_figures_of_the_gate_for_a_card(project, study):
    """With the digest of the weights, for which they are then taken."""
    stated = figures_for_card(study / "gate.json", project / "enhancer.pt", limit=0.45)
    assert stated["hands"] == 5
    assert stated[AS_SERVED]["limit"] == 0.45
    assert {one["kind"] for one in stated[AT_FALSE_ALARMS]["detected"]} == {"planted", "erased"}


def test_what_cannot_be_used_is_named_and_counted(project, study):
    """A file, a map, a map without bone, a hand that was not prepared: each with its reason, none ends the job."""
    with (study / "failures.csv").open(newline="") as file:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons.keys() == {BROKEN_FILE, BROKEN_MAP, NO_BONE, NOT_PREPARED}
    assert "1.png" in reasons[BROKEN_MAP]
    assert "0 px of bone" in reasons[NO_BONE]
    assert "is not in" in reasons[NOT_PREPARED]
    assert "4 radiographs could not be used; `failures.csv` names them" in (study / "report.md").read_text()


def measured(out):
    """How many radiographs are done."""
    folders = [out / name for name in ("hands", "regions") if (out / name / "rows.json").exists()]
    return sum(int(Rows.read(folder).done.sum()) for folder in folders)


def test_killed_it_ends_with_the_same_report(project, study, caplog):
    """Wherever it is killed: the next start goes on from there, and in the end nobody could tell."""
    out = project / "killed"
    values = settings(project, out=str(out))
    (project / "study.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "training.jobs.enhancement_study", "--config", str(project / "study.yaml")]
    job, at = subprocess.Popen(command, stderr=subprocess.DEVNULL), random.randrange(1, 8)

    def there():
        assert job.poll() is None, "the job ended early"
        return measured(out) >= at

    asyncio.run(until(there, timeout_s=PATIENCE_S))
    job.send_signal(signal.SIGKILL)
    job.wait(PATIENCE_S)
    assert measured(out) >= at
    assert not (out / "report.md").exists()
    run(EnhancementStudyConfig.model_validate(values))
    assert "1 of 8 radiographs are not in" in caplog.text
    assert "3 of 13 radiographs could not be measured" in caplog.text
    for name in ("report.md", "figures.json", "gate.json", "failures.csv", "examples.png", "kinds.png"):
        assert (out / name).read_bytes() == (study / name).read_bytes()
    logs = [[entry["step"] for entry in read_journal(folder)] for folder in (out, study)]
    assert logs[0] == logs[1] == list(range(1, 14))
    assert any((out / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"images": 9}, "holds 7 of the validation part, not 9"),
        ({"variants": 3}, "was made with other models or settings"),
        ({"backbone": "resnet18"}, "resnet18 from .*regressor.pt"),
    ],
)
def test_what_cannot_be_studied_is_refused(project, study, changes, named):
    """Too few hands, another study's results in the same folder, another network's weights: the message says which."""
    with pytest.raises(BadConfigurationError, match=named):
        run(EnhancementStudyConfig.model_validate(settings(project, **changes)))
