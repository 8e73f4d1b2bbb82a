"""The embedded release on what it was made for, and on what it must refuse, through the command and its services."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.core.runtime.settings import EMBEDDED_REPOSITORY
from tests.conftest import radiographs_folder

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "deploy" / "samples"
TIMEOUT_S = 300
SIZE_BUDGET_BYTES = 30_000_000


def boneage(*arguments: str | Path) -> list[dict]:
    """The JSON objects that the command prints with the embedded release."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("BONEAGE_")}
    environment = {**own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT
    )
    assert run.stdout, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_release_is_small_enough_for_git():
    """All of it stays under 30 MB, and every model's card carries the notice of its data."""
    assert sum(path.stat().st_size for path in EMBEDDED_REPOSITORY.rglob("*") if path.is_file()) < SIZE_BUDGET_BYTES
    cards = [json.loads(path.read_text()) for path in EMBEDDED_REPOSITORY.glob("*/*/card.json")]
    assert len(cards) >= 3
    assert all("non-commercial" in card["licence_notice"] for card in cards)


def test_sample_phantoms_are_read():
    """The drawn samples get numbers, on average within 12 months of the age that they were drawn for."""
    with (SAMPLES / "samples.csv").open(newline="") as file:
        truth = {row["file"]: float(row["age_months"]) for row in csv.DictReader(file)}
    answers = {Path(answer["path"]).name: answer for answer in boneage("assess", SAMPLES, "--json")}
    assert {name: answers[name]["status"] for name in truth} == dict.fromkeys(truth, "OK")
    errors = [abs(answers[name]["age_months"] - age) for name, age in truth.items()]
    assert np.mean(errors) <= 12


def test_photographs_noise_and_text_get_no_number(tmp_path):
    """Nothing that is not a hand is read: at most one of sixty slips, and that is one too many for a silent pass."""
    pytest.importorskip("skimage", reason="needs photographs: pip install scikit-image")
    from benchmarks.cases import not_hands, png

    for name, grey in not_hands():
        (tmp_path / f"{Path(name).stem}.png").write_bytes(png(grey))
    answers = boneage("assess", tmp_path, "--json")
    assert len(answers) == 60
    assert [Path(answer["path"]).stem for answer in answers if answer["status"] == "OK"] == []


def test_other_body_parts_get_no_number():
    """A lower leg and an animal's thorax, from every transfer syntax, are refused without a failure."""
    answers = boneage("assess", radiographs_folder() / "dicom", "--json")
    assert len(answers) == 7
    assert {answer["status"] for answer in answers} == {"ABSTAINED"}
    assert all(answer["age_months"] is None and answer["reason"] for answer in answers)


def test_real_radiographs_are_read_well(tmp_path):
    """Sixty radiographs of the test part: hardly any abstention, and an error far below the 34 months of guessing."""
    rsna = radiographs_folder() / "rsna-bone-age"
    with (ROOT / "training" / "data" / "split.csv").open(newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file) if row["part"] == "test"][:60]
    split = tmp_path / "split.csv"
    split.write_text("id,part\n" + "".join(f"{id_},test\n" for id_ in ids))
    (figures,) = boneage(
        "evaluate", "--images", rsna / "boneage-training-dataset", "--labels", rsna / "boneage-training-dataset.csv",
        "--sizes", rsna / "image-size.csv", "--split", split, "--part", "test", "--json",
    )  # fmt: skip
    assert figures["n_total"] == 60
    assert figures["failed"] == 0
    assert figures["abstained"] <= 3
    assert figures["mae_months"] < 12


def test_turned_radiographs_are_read_as_upright_ones(tmp_path):
    """Twenty of the test part on their side: as often as upright, in that turn, and to about the same age."""
    from benchmarks.cases import png, true_aspect
    from training.data.split import read_split

    rsna = radiographs_folder() / "rsna-bone-age"
    ids = [id_ for id_, part in read_split().items() if part == "test"][:20]
    ages = []
    for name, quarters in (("upright", 0), ("turned", 1)):
        (tmp_path / name).mkdir()
        for id_ in ids:
            shown = np.ascontiguousarray(np.rot90(true_aspect(rsna, id_), quarters))
            (tmp_path / name / f"{id_}.png").write_bytes(png(shown))
        answers = [a for a in boneage("assess", tmp_path / name, "--json") if a["status"] == "OK"]
        assert {answer["quarter_turns"] for answer in answers} == {-quarters % 4}
        ages.append({Path(answer["path"]).stem: answer["age_months"] for answer in answers})
    upright, turned = ages
    assert len(turned) >= len(upright) - 1 >= 17
    assert np.mean([abs(turned[id_] - upright[id_]) for id_ in turned.keys() & upright.keys()]) < 5


def test_one_hand_reads_the_same_in_any_form(tmp_path):
    """A hand as JPEG with its size, as PNG and as four kinds of DICOM: ages within 4 months, and one status.

    One of the five, a child of a year, lies at the limit of a gate, which its JPEG may pass by or not, and another's
    JPEG of 299 pixels is read 4.3 months apart from the files that have more of them.
    """
    from benchmarks.forms import write_forms

    data = radiographs_folder()
    sizes = write_forms(data, tmp_path, limit=5)
    answers = boneage("assess", tmp_path, "--sex", "female", "--sizes", sizes, "--json")
    assert len(answers) == 30
    by_hand: dict[str, list[dict]] = {}
    for answer in answers:
        by_hand.setdefault(Path(answer["path"]).stem.split("-")[0], []).append(answer)
    assert sum(len({form["status"] for form in forms}) > 1 for forms in by_hand.values()) <= 1
    ages = [[form["age_months"] for form in forms if form["age_months"] is not None] for forms in by_hand.values()]
    spreads = sorted(max(of_one) - min(of_one) for of_one in ages if of_one)
    assert spreads[-2] <= 4
    assert spreads[-1] <= 5


def test_shuffled_hand_gets_no_number(tmp_path):
    """A hand whose patches lie in another order is a hand to no one."""
    from benchmarks.cases import png, shuffled_hand

    for index, path in enumerate(sorted(SAMPLES.glob("*.dcm"))):
        (answer,) = boneage("assess", path, "--json", "--artifacts", tmp_path / path.stem)
        grey = cv2.imread(str(next((tmp_path / path.stem).glob("*.enhanced.png"))), cv2.IMREAD_GRAYSCALE)
        assert answer["status"] == "OK"
        (tmp_path / f"{path.stem}-shuffled.png").write_bytes(png(shuffled_hand(np.asarray(grey), index)))
        break
    (refused,) = [a for a in boneage("assess", tmp_path, "--json") if a["path"].endswith("-shuffled.png")]
    assert refused["status"] == "ABSTAINED"
