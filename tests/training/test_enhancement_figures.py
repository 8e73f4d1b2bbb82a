"""What is measured of enhancement: restoration, contrast, steadiness, and what the gate sees of planted bones."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.domain.gates import structure_change  # noqa: E402
from tests.training.drawn_hand import CENTRES, hand  # noqa: E402
from training.data.masks import read_label_map  # noqa: E402
from training.enhancement.degrade import KINDS  # noqa: E402
from training.enhancement.methods import Methods, trained_for  # noqa: E402
from training.enhancement.planted import Centres, contrast_change, detection, erase, plant, responses  # noqa: E402
from training.evaluation.enhancement import compare, compare_hands  # noqa: E402
from training.evaluation.gate_figures import AS_SERVED, AT_FALSE_ALARMS, figures_for_card, gate_figures  # noqa: E402
from training.evaluation.restoration import contrast_to_noise, psnr, ssim, unsteadiness  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402


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
