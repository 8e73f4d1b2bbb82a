"""What the gates are fitted on: radiographs that can be read, with those that cannot named and counted."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.models import hand_picture  # noqa: E402
from training.data.radiographs import Radiograph  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.evaluation import gating  # noqa: E402
from training.evaluation.gating import Chain, FittingSets  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.models.segmenter import FCDenseNet  # noqa: E402
from training.run.advance import advancing  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.run.journal import read_journal  # noqa: E402


@pytest.fixture
def radiographs(tmp_path):
    """Eight, of which one is no image and one is not there any more."""
    picture = np.rint(hand_picture(120, 100) * 255).astype(np.uint8)
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.roll(picture, number, axis=1))
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "5.png").unlink()
    return [Radiograph(str(i), tmp_path / f"{i}.png", "100", "male", "train", None) for i in range(8)]


@pytest.fixture(scope="module")
def chain():
    """Networks that were never trained."""
    torch.manual_seed(0)
    reader = TransferNetwork("mobilenetv3_small_050", 3)
    return Chain(FCDenseNet().eval(), UNetGenerator().eval(), reader, 0.45)


def fitted(chain, radiographs, folder, *, made_by="test"):
    """Features of two radiographs of each kind, kept in `folder`."""
    sets = FittingSets(radiographs, 2, 1, folder / "features", made_by)
    with advancing(folder / "log", title="fit", total=len(radiographs)) as advance:
        return sets.features(chain, advance)


def test_what_cannot_be_read_is_named_and_the_rest_is_fitted_on(chain, radiographs, tmp_path, caplog):
    """Two of eight are missing from the sets that they were drawn for; the log says which, why and how many."""
    upright, turned, _ = fitted(chain, radiographs, tmp_path)
    whole = 6
    assert whole - 2 <= len(upright) + len(turned) <= whole
    assert upright.shape[1] == turned.shape[1]
    said = caplog.text
    assert "2 of 8 radiographs could not be read" in said
    assert "3: " in said
    assert "5.png" in said


def test_features_that_are_kept_are_not_made_again(chain, radiographs, tmp_path, monkeypatch, caplog):
    """Chunks that are whole stay as they are, the others come out the same; other networks' are all made anew."""
    monkeypatch.setattr(gating, "CHUNK", 2)
    before = fitted(chain, radiographs, tmp_path)
    rows = Rows.read(tmp_path / "features", write=True)
    whole, *others = [place for place in range(0, 8, 2) if rows.done[place : place + 2].all()]
    expected = rows.columns["features"].copy()
    expected[whole : whole + 2] += 1
    rows.columns["features"][:] = expected
    rows.columns["features"][others] = 0
    rows.done[others] = False
    caplog.clear()
    fitted(chain, radiographs, tmp_path)
    assert "2 of 8 radiographs could not be read" in caplog.text
    np.testing.assert_array_equal(rows.columns["features"], expected)
    steps = [entry["step"] for entry in read_journal(tmp_path / "log")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 8
    for ours, theirs in zip(fitted(chain, radiographs, tmp_path, made_by="another"), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_any_hand_there_is_nothing_to_fit(chain, radiographs, tmp_path):
    """Where no radiograph can be read, the job ends with that, not with a riddle."""
    with pytest.raises(BadConfigurationError, match="no hand is left"):
        fitted(chain, [radiographs[3], radiographs[5]], tmp_path)
