"""Weights of versions in a store: what serves is found, copied once, and compared with its card."""

import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.store import Store  # noqa: E402
from services.core.domain.contracts import REGRESSOR  # noqa: E402
from tests.models import publish_tiny, tiny_release  # noqa: E402
from training.jobs.transfer import TransferConfig  # noqa: E402
from training.publish.published import Published  # noqa: E402
from training.publish.store import numbered  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402


@pytest.fixture
def store(tmp_path):
    """A store with one release, which serves."""
    store = Store(str(tmp_path / "store"))
    publish_tiny(store, tiny_release())
    return store


def test_what_serves_is_copied_once(store, tmp_path):
    """A copy that is there is not fetched again: a run goes on from what it began with."""
    place = Published(str(store.folder), REGRESSOR)
    assert place.named() == Published(str(store.folder), REGRESSOR, 1)
    path = place.fetch(tmp_path / "run")
    assert path.read_bytes() == store.read(f"{REGRESSOR}/1/model.onnx")
    path.write_bytes(b"as it was")
    assert place.fetch(tmp_path / "run").read_bytes() == b"as it was"


def test_what_is_not_there_or_damaged_is_told(store, tmp_path):
    """A version, a model, a release that serves; and a file that is not its card's leaves nothing behind."""
    url = str(store.folder)
    with pytest.raises(BadConfigurationError, match="no version 7 of boneage_regressor"):
        Published(url, REGRESSOR, 7).fetch(tmp_path / "run")
    with pytest.raises(BadConfigurationError, match="has no hand_classifier, but"):
        Published(url, "hand_classifier").named()
    with pytest.raises(BadConfigurationError, match="no release serves from the store"):
        Published(str(tmp_path / "empty"), REGRESSOR).named()
    store.replace(f"{REGRESSOR}/1/model.onnx", b"damaged")
    with pytest.raises(BadConfigurationError, match="is damaged"):
        Published(url, REGRESSOR).fetch(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.onnx"))


def test_a_run_goes_on_from_the_version_that_it_began_with(store, tmp_path):
    """Whatever has come to serve since."""
    config = TransferConfig.model_validate({
        "source": {"dataset": {"images": "none", "labels": "none.csv"}, "hands": "none"}, "backbone": "resnet18",
        "start_from": {"store": str(store.folder), "model": REGRESSOR}, "target": {"kind": "age"},
        "stages": [{"trainable": [], "images": 8, "learning_rate": 0.1}],
        "fitting": {"batch_size": 8, "validate_every": 8, "seed": 1}, "out": str(tmp_path / "run"),
    })  # fmt: skip
    assert config.settled().start_from == Published(str(store.folder), REGRESSOR, 1)
    (tmp_path / "run").mkdir()
    begun = f"start_from: {{store: {store.folder}, model: {REGRESSOR}, version: 0}}\n"
    (tmp_path / "run" / "config.yaml").write_text(begun)
    assert config.settled().start_from == Published(str(store.folder), REGRESSOR, 0)


def test_versions_have_numbers_without_being_told(store):
    """New weights take the next that is free, everything else is what serves."""
    models = ("hand_segmenter", "radiograph_enhancer", REGRESSOR)
    numbers = numbered(store, {"hand_segmenter": 9}, models, new=[REGRESSOR])
    assert numbers == {"hand_segmenter": 9, "radiograph_enhancer": 1, REGRESSOR: 2}
    with pytest.raises(BadConfigurationError, match="no hand_classifier serves"):
        numbered(store, {}, (*models[:2], "hand_classifier"), new=[])
