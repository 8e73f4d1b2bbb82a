"""What the gates are fitted on: radiographs that can be read, with those that cannot named and counted."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.domain.contracts import CONTRACTS  # noqa: E402
from services.core.domain.preprocess import HAND_PX  # noqa: E402
from services.core.runtime.settings import ModelSettings, read_settings  # noqa: E402
from tests.models import hand_picture  # noqa: E402
from training.data.radiographs import Radiograph  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.evaluation import gating  # noqa: E402
from training.evaluation.disturbed import Disturbed  # noqa: E402
from training.evaluation.gating import Chain, FittingSets, Preparing, RefusedShares, thresholds  # noqa: E402
from training.evaluation.measure import OnnxModel  # noqa: E402
from training.evaluation.typicality import NAMES  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.run.advance import advancing  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.run.journal import read_journal  # noqa: E402


@pytest.fixture
def radiographs(tmp_path):
    """Twelve, of which one is no image and one is not there any more."""
    picture = np.rint(hand_picture(120, 100) * 255).astype(np.uint8)
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.roll(picture, number, axis=1))
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "5.png").unlink()
    return [Radiograph(str(i), tmp_path / f"{i}.png", "100", "male", "train", None) for i in range(12)]


@pytest.fixture(scope="module")
def chain():
    """Networks that were never trained."""
    torch.manual_seed(0)
    reader = TransferNetwork("mobilenetv3_small_050", 3)
    return Chain(Preparing(FCDenseNet().eval(), UNetGenerator().eval(), 0.45), reader)


def fitted(chain, radiographs, folder, *, made_by="test"):
    """Features of two radiographs of each kind, kept in `folder`."""
    sets = FittingSets(radiographs, 2, 1, folder / "features", made_by)
    with advancing(folder / "log", title="fit", total=len(radiographs)) as advance:
        return sets.features(chain, advance)


def test_what_cannot_be_read_is_named_and_the_rest_is_fitted_on(chain, radiographs, tmp_path, caplog):
    """Two of twelve are missing from the sets that they were drawn for; the log says which, why and how many."""
    upright, turned, _ = fitted(chain, radiographs, tmp_path)
    whole = 8
    assert whole - 2 <= len(upright) + len(turned) <= whole
    assert upright.shape[1] == turned.shape[1]
    said = caplog.text
    assert "2 of 12 radiographs could not be read" in said
    assert "3: " in said
    assert "5.png" in said


def test_shuffled_hands_are_none_either(chain, radiographs, tmp_path):
    """What is foreign to a hand are both kinds that were made into none, each of its own radiographs."""

    def prepare(frames):
        """Every frame is a hand."""
        return np.stack([cv2.resize(np.float32(frame), (HAND_PX, HAND_PX)) for frame in frames]) + 0.01, {}

    _, _, foreign = fitted(replace(chain, prepare=prepare), radiographs, tmp_path)
    rows = Rows.read(tmp_path / "features")
    none = np.array([name.startswith(("no hand: ", "shuffled: ")) for name in rows.ids])
    assert (none & rows.done).sum() >= 2
    np.testing.assert_array_equal(foreign, rows.columns["features"][none & rows.done])


def test_what_shows_no_hand_as_it_is_changed_is_none_that_is_upright_or_turned(chain, radiographs, tmp_path, caplog):
    """Its features are those of nothing; it is named."""

    def prepare(frames):
        """Of the first of those that are looked at together no hand is left."""
        hands = np.stack([cv2.resize(np.float32(frame), (HAND_PX, HAND_PX)) for frame in frames]) + 0.01
        hands[0] = 0
        return hands, {}

    sets = fitted(replace(chain, prepare=prepare), radiographs, tmp_path)
    rows = Rows.read(tmp_path / "features")
    (lost,) = np.flatnonzero(rows.done & ~rows.columns["hand"])
    assert rows.ids[lost].startswith("upright: ")
    assert "1 of 12 radiographs show no hand as they are changed, and the gates are fitted without: " in caplog.text
    assert sum(map(len, sets)) == rows.done.sum() - 1
    assert not any((features == rows.columns["features"][lost]).all(axis=1).any() for features in sets)


def test_features_that_are_kept_are_not_made_again(chain, radiographs, tmp_path, monkeypatch, caplog):
    """Chunks that are whole stay as they are, the others come out the same; other networks' are all made anew."""
    monkeypatch.setattr(gating, "CHUNK", 2)
    before = fitted(chain, radiographs, tmp_path)
    rows = Rows.read(tmp_path / "features", write=True)
    whole, *others = [place for place in range(0, 12, 2) if rows.done[place : place + 2].all()]
    expected = rows.columns["features"].copy()
    expected[whole : whole + 2] += 1
    rows.columns["features"][:] = expected
    rows.columns["features"][others] = 0
    rows.done[others] = False
    caplog.clear()
    fitted(chain, radiographs, tmp_path)
    assert "2 of 12 radiographs could not be read" in caplog.text
    np.testing.assert_array_equal(rows.columns["features"], expected)
    steps = [entry["step"] for entry in read_journal(tmp_path / "log")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12
    for ours, theirs in zip(fitted(chain, radiographs, tmp_path, made_by="another"), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_another_file_by_now_is_read_again(chain, radiographs, tmp_path, monkeypatch):
    """With its chunk alone, and the sets tell that they are others."""
    monkeypatch.setattr(gating, "CHUNK", 2)
    fitted(chain, radiographs, tmp_path)
    rows = Rows.read(tmp_path / "features", write=True)
    before, digest = rows.columns["features"].copy(), FittingSets(radiographs, 2, 1, tmp_path, "test").digest()
    replaced = next(place for place, name in enumerate(rows.ids) if rows.done[place])
    path = tmp_path / f"{rows.ids[replaced].rpartition(' ')[2]}.png"
    cv2.imwrite(str(path), cv2.flip(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), 0))
    rows.columns["features"][:] = before + 1
    fitted(chain, radiographs, tmp_path)
    others = np.array([
        rows.done[place] and place // 2 != replaced // 2 and rows.done[place // 2 * 2 : place // 2 * 2 + 2].all()
        for place in range(len(rows.ids))
    ])  # fmt: skip
    assert not np.allclose(rows.columns["features"][replaced], before[replaced])
    assert FittingSets(radiographs, 2, 1, tmp_path, "test").digest() != digest
    assert others.any()
    np.testing.assert_array_equal(rows.columns["features"][others], before[others] + 1)


def test_without_any_hand_there_is_nothing_to_fit(chain, radiographs, tmp_path):
    """Where no radiograph can be read, the job ends with that, not with a riddle."""
    with pytest.raises(BadConfigurationError, match="no hand is left"):
        fitted(chain, [radiographs[3], radiographs[5]], tmp_path)


def figures(rng, count, *, typical, certain):
    """What the gates look at in so many radiographs."""
    numbers = {name: rng.uniform(0.2, 0.4, count).astype(np.float32) for name in ("fraction", "contrast")}
    typicality = rng.normal(typical, 1, (count, len(NAMES))).astype(np.float32)
    return numbers | {"certainty": rng.normal(certain, 0.01, count).astype(np.float32), "typicality": typicality}


def test_no_gate_refuses_more_than_its_share_of_any_kind():
    """Each limit is the least of the usual radiographs' and of each disturbed kind's; without any, the usual ones'."""
    rng = np.random.default_rng(3)
    usual = figures(rng, 500, typical=5, certain=0.95)
    tilted, stored = (figures(rng, 300, typical=typical, certain=0.8) for typical in (3, 2))
    nearness = NAMES.index("nearness")
    for disturbed in (tilted, stored):
        disturbed["typicality"][:, nearness] += 9
    shares = RefusedShares(0.01, 0.03, 0.1, {"tilted": 0.2, "badly_stored": 0.05})
    settings = {"maximum_interval_width_months": 90, "maximum_structure_change": 0.45}
    both = {"tilted": tilted, "badly_stored": stored}
    alone, all_ = thresholds(usual, {}, shares, **settings), thresholds(usual, both, shares, **settings)
    of_usual = {"uprightness": 0.1, "hand likeness": 0.03}
    for column, (before, after) in enumerate(zip(alone.typicality, all_.typicality, strict=True)):
        share = of_usual.get(before.name, 0.01)
        assert before.minimum == np.quantile(usual["typicality"][:, column], share, method="lower")
        expected = np.quantile(stored["typicality"][:, column], 0.05, method="lower")
        assert after.minimum == (before.minimum if column == nearness else expected)
    least = (
        np.quantile(tilted["certainty"], 0.2, method="lower"),
        np.quantile(stored["certainty"], 0.05, method="lower"),
    )
    assert all_.minimum_mask_certainty == pytest.approx(min(least) * 0.95)
    assert alone.minimum_mask_certainty > 0.85
    one = thresholds(usual, {"tilted": tilted}, shares, **settings).typicality[0].minimum
    assert one == np.quantile(tilted["typicality"][:, 0], 0.2, method="lower")
    stored["fraction"][0] = 0.97
    flooded = thresholds(usual, both, shares, **settings)
    assert flooded.maximum_foreground_fraction == all_.maximum_foreground_fraction < 0.45


def test_disturbed_radiographs_are_measured_as_they_are_served(chain, radiographs, tmp_path, caplog, monkeypatch):
    """Each kind has its own; kept chunks are not made again, and another reader's all are."""
    monkeypatch.setattr(gating, "CHUNK", 2)
    embedded = read_settings(ModelSettings).model_repository
    newest = max((embedded / "boneage_regressor").glob("*/model.onnx"), key=lambda path: int(path.parent.name))
    reader = OnnxModel(CONTRACTS["boneage_regressor"], newest)

    def measured(said_by="reader"):
        with advancing(tmp_path / "log", title="disturbed", total=len(radiographs)) as advance:
            disturbed = Disturbed(radiographs, 12, 1, tmp_path / "disturbed", "test", ("tilted", "badly_stored"))
            return [*disturbed.figures(chain.prepare, reader, said_by=said_by, advance=advance).values()]

    first = measured()
    assert "2 of 12 radiographs could not be read" in caplog.text
    assert all(figures["typicality"].shape == (len(figures["certainty"]), len(NAMES)) for figures in first)
    rows = Rows.read(tmp_path / "disturbed", write=True)
    assert 1 < sum(len(figures["certainty"]) for figures in first) <= rows.done.sum() == 10
    whole = next(place for place in range(0, 12, 2) if rows.done[place : place + 2].all())
    rows.columns["certainty"][whole] += 1
    kept = rows.columns["certainty"].copy()
    measured()
    np.testing.assert_array_equal(Rows.read(tmp_path / "disturbed").columns["certainty"], kept)
    for ours, theirs in zip(measured("another"), first, strict=True):
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])


def test_few_radiographs_are_shared_by_all_kinds(radiographs, tmp_path):
    """Twelve, where many more of each kind are asked for: two of each."""
    sets = FittingSets(radiographs, 100, 1, tmp_path, "test")
    assert sets.each == 2
    assert sorted(sets.chosen) == list(range(12))
