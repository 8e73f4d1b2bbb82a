"""What is measured of enhancement: restoration, contrast, steadiness, and what the gate sees of planted bones."""

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

from services.core.domain.gates import structure_change  # noqa: E402
from services.core.domain.preprocess import HAND_PX  # noqa: E402
from training.data.masks import read_label_map  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.planted import Centres, contrast_change, detection, erase, plant, responses  # noqa: E402
from training.evaluation.restoration import contrast_to_noise, psnr, ssim, unsteadiness  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402

PATIENCE_S = 400
SIDE = 96
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


@pytest.fixture
def project(tmp_path):
    """Eight hands of the validation part, prepared, with maps, and models that were never trained."""
    for folder in ("images", "regions"):
        (tmp_path / folder).mkdir()
    ids = [str(i) for i in range(8)]
    image, bone = hand()
    grey = np.rint(image * 255).astype(np.uint8)
    for id_ in ids:
        cv2.imwrite(str(tmp_path / "images" / f"{id_}.png"), np.maximum(grey, 10))
        cv2.imwrite(
            str(tmp_path / "regions" / f"{id_}.png"), np.where(bone, 2, (image > 0).astype(int)).astype(np.uint8)
        )
    (tmp_path / "labels.csv").write_text(
        "\n".join(["id,boneage,male", *(f"{i},{60 + int(i)},True" for i in ids)]) + "\n"
    )
    (tmp_path / "split.csv").write_text("\n".join(["id,part", *(f"{i},validation" for i in ids)]) + "\n")
    rows = Rows.make(tmp_path / "hands", ids, {"segmented": ((HAND_PX, HAND_PX), "uint8")}, made_by="test")
    rows.write(np.arange(8), segmented=np.stack([cv2.resize(grey, (HAND_PX, HAND_PX))] * 8))
    torch.manual_seed(0)
    for name, network in (("segmenter", FCDenseNet()), ("enhancer", UNetGenerator()),
                          ("regressor", TransferNetwork("tf_efficientnet_lite0", 3))):  # fmt: skip
        torch.save({"model": network.state_dict()}, tmp_path / f"{name}.pt")
    return tmp_path


def job(project, **changes):
    """The job, to its end."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    values = {
        "dataset": dataset, "hands": str(project / "hands"), "segmenter": str(project / "segmenter.pt"),
        "enhancers": {"new": str(project / "enhancer.pt")}, "regressor": str(project / "regressor.pt"),
        "backbone": "tf_efficientnet_lite0", "regions": str(project / "regions"), "limit": 0.45, "images": 6,
        "variants": 2, "region_images": 4, "seed": 1, "out": str(project / "out"),
    } | changes  # fmt: skip
    (project / "study.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "training.jobs.enhancement_study", "--config", str(project / "study.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_job_measures_every_method(project):
    """A table of each question, with nothing, CLAHE and the enhancer with and without its gate."""
    done = job(project)
    assert done.returncode == 0, done.stderr
    figures = json.loads((project / "out" / "figures.json").read_text())
    methods = ["nothing", "CLAHE", "new", "new, gated"]
    assert list(figures["restoration"]) == methods
    assert list(figures["mae_months"]) == methods
    assert figures["restoration"]["nothing"]["psnr_undegraded_db"]["mean"] == pytest.approx(100)
    assert figures["gate"]["as served"]["limit"] == 0.45
    report = (project / "out" / "report.md").read_text()
    assert all(f"| {method} |" in report for method in methods)
    assert (project / "out" / "examples.png").stat().st_size > 1000


def test_too_few_hands_are_refused(project):
    """Exit code 64, and what is wrong."""
    refused = job(project, images=9)
    assert refused.returncode == 64
    assert "holds 8 of the validation part, not 9" in refused.stderr
