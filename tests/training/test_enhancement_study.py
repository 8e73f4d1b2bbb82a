"""What is measured of enhancement: restoration, contrast, steadiness, and what the gate sees of planted bones."""

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
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.domain.gates import structure_change  # noqa: E402
from tests.waiting import until  # noqa: E402
from training.data.masks import read_label_map  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.degrade import KINDS  # noqa: E402
from training.enhancement.methods import Methods, trained_for  # noqa: E402
from training.enhancement.planted import Centres, contrast_change, detection, erase, plant, responses  # noqa: E402
from training.evaluation.enhancement import compare, compare_hands  # noqa: E402
from training.evaluation.gate_figures import AS_SERVED, AT_FALSE_ALARMS, figures_for_card, gate_figures  # noqa: E402
from training.evaluation.restoration import contrast_to_noise, psnr, ssim, unsteadiness  # noqa: E402
from training.jobs.enhancement_study import EnhancementStudyConfig, run  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.run.journal import read_journal  # noqa: E402

PATIENCE_S = 400
SIDE = 96
BACKBONE = "mobilenetv3_small_050"
CENTRES = ((30, 40, 6), (60, 55, 10))


def hand():
    """An ellipse of tissue with two round centres of bone, and their map."""
    image, bone = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(image, (SIDE // 2, SIDE // 2), (38, 44), 0, 0, 360, 0.4, -1)
    for row, column, diameter in CENTRES:
        cv2.circle(bone, (column, row), diameter // 2, 1, -1)
    image = image + np.where(bone > 0, np.float32(0.25), np.float32(0))
    inside = image > 0
    image = cv2.GaussianBlur(image, (0, 0), 1) + np.random.default_rng(0).normal(0, 0.01, image.shape)
    return np.where(inside, np.clip(image, 1 / 255, 1), 0).astype(np.float32), bone > 0


def test_planted_and_erased_centres_change_their_place_alone():
    """What is planted is brighter there, what is erased is darker there, and nothing happens elsewhere or outside."""
    image, bone = hand()
    rows, columns = np.indices(image.shape)
    planted = plant(image, 75, 35, 8, 0.25)
    far = np.hypot(rows - 75, columns - 35) > 10
    assert planted[75, 35] > image[75, 35] + 0.2
    assert np.allclose(planted[far], image[far], atol=1e-3)
    erased = erase(image, 60, 55, 10)
    assert erased[60, 55] < image[60, 55] - 0.15
    far = np.hypot(rows - 60, columns - 55) > 8
    assert np.array_equal(erased[far], image[far])
    assert not planted[image == 0].any()
    assert not erased[image == 0].any()
    assert bone[60, 55]


@given(st.integers(0, 2**31))
def test_changes_of_contrast_keep_the_order_of_greys(seed):
    """A monotone change, zero outside, within [0, 1]: no structure appears by it."""
    image, _ = hand()
    changed = contrast_change(image, np.random.default_rng(seed))
    inside = image > 0
    order = np.argsort(image[inside], kind="stable")
    assert (np.diff(changed[inside][order]) >= 0).all()
    assert not changed[~inside].any()
    assert changed.max() <= 1


def test_centres_are_found_by_size_and_place():
    """Single centres of up to 20 px, and tissue away from bone and border; a long bone is no centre."""
    image, bone = hand()
    long_bone = bone.copy()
    long_bone[70:74, 30:70] = True
    for labelled in (bone, long_bone):
        found = Centres.of(image, labelled)
        assert sorted((row, column) for row, column, _ in found.found) == [(row, column) for row, column, _ in CENTRES]
        assert found.tissue.any()
        assert (image[found.tissue] > 0).all()
        assert not (found.tissue & labelled).any()


def test_gate_answers_more_to_a_lost_centre_than_to_contrast():
    """What the study measures, on one hand: erasing and planting stand out from a change of contrast alone."""
    image, bone = hand()
    allowed, found = responses(image, bone, np.random.default_rng(3))
    assert {kind for kind, _ in found} == {"planted", "erased"}
    assert allowed == structure_change(image, contrast_change(image, np.random.default_rng(3)))
    assert found["erased", 12] > allowed + 0.2
    assert found["planted", 16] > allowed


def test_detection_is_counted_at_the_limit():
    """The limit that one in twenty allowed changes exceeds, or the one that is given."""
    allowed = np.linspace(0, 1, 101)
    changed = {("erased", 8): np.array([0.2, 0.96, 0.99]), ("planted", 4): np.array([0.1])}
    found = detection(allowed, changed)
    assert found.limit == pytest.approx(0.95)
    assert found.false_alarms == pytest.approx(5 / 101)
    assert found.detected == {("erased", 8): (pytest.approx(2 / 3), 3), ("planted", 4): (0.0, 1)}
    assert detection(allowed, changed, limit=0.15).detected["erased", 8] == (1.0, 3)


@given(st.floats(0.01, 0.3))
def test_psnr_is_that_of_a_uniform_error(error):
    """-20 log10 of an error that is the same everywhere in the hand, whatever is outside."""
    original = np.full((16, 16), 0.4, np.float32)
    original[:4] = 0
    restored = original + np.float32(error)
    assert psnr(restored, original) == pytest.approx(-20 * np.log10(error), abs=0.01)


def test_figures_are_best_where_nothing_is_wrong():
    """SSIM 1 and no unsteadiness for the hand itself; noise lowers the one and raises the other."""
    image, bone = hand()
    assert ssim(image, image) == pytest.approx(1)
    assert unsteadiness(np.stack([image, image])) == 0
    noisy = image + np.random.default_rng(1).normal(0, 0.05, image.shape).astype(np.float32)
    assert ssim(noisy, image) < 0.9
    assert unsteadiness(np.stack([image, noisy])) > 0.01
    tissue = (image > 0) & ~bone
    assert contrast_to_noise(image, bone, tissue) > contrast_to_noise(noisy, bone, tissue) > 0


def test_label_maps_are_read_by_index(tmp_path):
    """A palette's indices count, not its colours; what is no map of labels is refused."""
    from PIL import Image

    labels = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(labels)
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    picture.save(tmp_path / "map.png")
    assert np.array_equal(read_label_map(tmp_path / "map.png"), labels)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "colour.png")
    for name in ("colour.png", "absent.png"):
        with pytest.raises(BadConfigurationError, match=name):
            read_label_map(tmp_path / name)


def test_differences_are_paired_by_hand():
    """A method that is better by the same on every hand is surely better, however much hands differ."""
    values = np.random.default_rng(0).normal(20, 5, (40, 1)) + np.array([0.0, 1.0])
    found = compare(values, ["a", "b"], [("b", "a")])
    assert found["differences"]["b against a"] == pytest.approx({"mean": 1, "low": 1, "high": 1})
    assert found["methods"]["a"]["high"] - found["methods"]["a"]["low"] > 1


@pytest.mark.parametrize("variants", [2, 8])
def test_variants_of_one_hand_are_one_hand(variants):
    """The same values in more variants say nothing more: the interval is that over hands."""
    of_hands = np.random.default_rng(1).normal(20, 5, (30, 2))
    images = np.repeat(of_hands[:, :, None], 1 + variants + len(KINDS), axis=2)
    columns = dict.fromkeys(("psnr_db", "ssim", "error_months"), images) | {"unsteadiness": of_hands}
    names, pairs = ["a", "b"], [("b", "a")]
    found = compare_hands(columns, names, pairs, variants=variants)
    expected = compare(of_hands, names, pairs)
    assert_same(found["restoration"]["psnr_db"], expected)
    assert_same(found["mae_months"]["degraded"], expected)
    assert list(found["by_kind"]["psnr_db"]) == list(KINDS)


def assert_same(found, expected):
    """Two comparisons, up to rounding."""
    for head, by_name in expected.items():
        assert found[head].keys() == by_name.keys()
        assert all(found[head][name] == pytest.approx(by_name[name]) for name in by_name)


def test_methods_are_compared_with_nothing_with_the_gate_and_with_each_other():
    """An enhancer behind its gate changes what the limit lets through, whole, and nothing else."""
    torch.manual_seed(0)
    image = np.stack([cv2.resize(hand()[0], (64, 64))] * 18)
    nets = {"U-Net": UNetGenerator().eval(), "GAN": UNetGenerator().eval()}
    open_, shut = Methods(nets, 1.0)(image), Methods(nets, 0.0)(image)
    assert all(np.array_equal(open_[name], open_[f"{name}, gated"]) for name in nets)
    assert all(np.array_equal(shut[f"{name}, gated"], image) for name in nets)
    assert not np.array_equal(open_["U-Net"], open_["GAN"])
    pairs = Methods(nets, 1.0).pairs
    assert {("CLAHE", "nothing"), ("GAN, gated", "GAN"), ("GAN", "U-Net"), ("GAN, gated", "U-Net, gated")} < set(pairs)
    assert list(open_) == ["nothing", "CLAHE", "U-Net", "U-Net, gated", "GAN", "GAN, gated"]


def test_what_an_enhancer_was_trained_for_is_beside_its_weights(tmp_path):
    """In its run's configuration or in its version's card; nothing there says nothing."""
    assert trained_for(tmp_path / "weights.pt") is None
    (tmp_path / "config.yaml").write_text("seed: 1\nadversarial_weight: 0.1\n")
    assert trained_for(tmp_path / "weights.pt") == ["exposure", "scatter", "blur", "noise"]
    (tmp_path / "config.yaml").write_text("collimation_share: 0.2\ninversion_share: 0.0\n")
    assert trained_for(tmp_path / "weights.pt") == ["exposure", "scatter", "blur", "noise", "collimation"]
    (tmp_path / "card.json").write_text(json.dumps({"trained_with": [{"parts": []}, {"inversion_share": 0.1}]}))
    assert trained_for(tmp_path / "model.onnx") == ["exposure", "scatter", "blur", "noise", "inversion"]


def test_a_card_states_what_its_own_gate_sees(tmp_path):
    """Of these weights at this limit; figures of others, or none, are refused by name."""
    for name in ("ours", "others"):
        (tmp_path / f"{name}.pt").write_text(name)
    found = detection(np.linspace(0, 1, 101), {("erased", 8): np.array([0.2, 0.96])})
    study = {AT_FALSE_ALARMS: found, AS_SERVED: found}
    figures = gate_figures(study, {"new": tmp_path / "ours.pt"}, limit=0.45, hands=7)
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(figures))
    stated = figures_for_card(path, tmp_path / "ours.pt", limit=0.45)
    assert (stated["hands"], stated["weights_sha256"]) == (7, figures["enhancers"]["new"])
    assert stated[AT_FALSE_ALARMS]["detected"] == [{"kind": "erased", "diameter_px": 8, "share": 0.5, "n": 2}]
    with pytest.raises(BadConfigurationError, match=r"gate\.json is of other weights than .*others\.pt"):
        figures_for_card(path, tmp_path / "others.pt", limit=0.45)
    with pytest.raises(BadConfigurationError, match=r"of the limit 0\.45, not of 0\.5"):
        figures_for_card(path, tmp_path / "ours.pt", limit=0.5)
    for text in ("{}", "[]", "no JSON", json.dumps({"enhancers": {}, "limit": None})):
        path.write_text(text)
        with pytest.raises(BadConfigurationError, match=r"gate\.json holds no figures"):
            figures_for_card(path, tmp_path / "ours.pt", limit=0.45)


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
        ({"variants": 3}, "was made with other made_by"),
        ({"backbone": "resnet18"}, "resnet18 from .*regressor.pt"),
    ],
)
def test_what_cannot_be_studied_is_refused(project, study, changes, named):
    """Too few hands, another study's results in the same folder, another network's weights: the message says which."""
    with pytest.raises(BadConfigurationError, match=named):
        run(EnhancementStudyConfig.model_validate(settings(project, **changes)))
