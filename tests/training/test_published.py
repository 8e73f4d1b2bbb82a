"""Weights of versions in a store: what serves is found, copied once, and compared with its card."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.store import Store  # noqa: E402
from services.core.domain.contracts import CONTRACTS, REGRESSOR  # noqa: E402
from services.core.domain.preprocess import HAND_PX  # noqa: E402
from tests.models import publish_tiny, tiny_release  # noqa: E402
from tests.ports import LOOPBACK, free_port  # noqa: E402
from training.jobs.begun import keep_config  # noqa: E402
from training.jobs.transfer import TransferConfig  # noqa: E402
from training.models.enhancer import UNetGenerator  # noqa: E402
from training.publish.proven import Proven  # noqa: E402
from training.publish.published import Published  # noqa: E402
from training.publish.store import numbered, publish_new  # noqa: E402
from training.publish.trained_on import trained_on  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.transfer.devices import Device  # noqa: E402

ALONE = Device("cpu", "fp32")


@pytest.fixture
def store(tmp_path):
    """A store with one release, which serves."""
    store = Store(str(tmp_path / "store"))
    publish_tiny(store, tiny_release())
    return store


def test_what_serves_is_copied_once(store, tmp_path):
    """A copy that is there is not fetched again: a run goes on from what it began with."""
    card = json.loads(store.read(f"{REGRESSOR}/1/card.json"))
    store.replace(f"{REGRESSOR}/1/card.json", json.dumps(card | {"training_ids": ["7", "8"]}).encode())
    place = Published(str(store.folder), REGRESSOR)
    assert place.named() == Published(str(store.folder), REGRESSOR, 1)
    path = place.fetch(tmp_path / "run")
    assert path.read_bytes() == store.read(f"{REGRESSOR}/1/model.onnx")
    assert trained_on(path) == {"7", "8"}
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


def test_a_version_of_one_store_is_not_taken_for_that_of_another(store, tmp_path):
    """The same model, the same number, the same run's folder."""
    other = Store(str(tmp_path / "other"))
    publish_tiny(other, tiny_release("other-1"), older_months=9)
    run = tmp_path / "run"
    one, another = (Published(str(place), REGRESSOR, 1).fetch(run) for place in (store.folder, other.folder))
    assert one.read_bytes() == store.read(f"{REGRESSOR}/1/model.onnx")
    assert another.read_bytes() == other.read(f"{REGRESSOR}/1/model.onnx")
    assert one.read_bytes() != another.read_bytes()


def test_processes_that_train_together_all_get_it(store, tmp_path):
    """All at once, into the same folder: each has the whole file, and nothing half stays."""
    place, folder = Published(str(store.folder), REGRESSOR, 1), tmp_path / "run"
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: place.fetch(folder), range(32)))
    assert {path.read_bytes() for path in paths} == {store.read(f"{REGRESSOR}/1/model.onnx")}
    assert sorted(folder.iterdir()) == [paths[0].with_suffix(".json"), paths[0]]


def config_of(store, tmp_path):
    """A run that starts from what serves."""
    return TransferConfig.model_validate({
        "source": {"dataset": {"images": "none", "labels": "none.csv"}, "hands": "none"}, "backbone": "resnet18",
        "start_from": {"store": str(store), "model": REGRESSOR}, "target": {"kind": "age"},
        "stages": [{"trainable": [], "images": 8, "learning_rate": 0.1}],
        "fitting": {"batch_size": 8, "validate_every": 8, "seed": 1}, "out": str(tmp_path / "run"),
    })  # fmt: skip


def test_a_run_goes_on_from_the_version_that_it_began_with(store, tmp_path):
    """Whatever has come to serve since."""
    config = config_of(store.folder, tmp_path)
    begun = config.settled(ALONE)
    assert begun.start_from == Published(str(store.folder), REGRESSOR, 1)
    keep_config(begun.model_copy(update={"start_from": Published(str(store.folder), REGRESSOR, 0)}), tmp_path / "run")
    assert config.settled(ALONE).start_from == Published(str(store.folder), REGRESSOR, 0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


SETTLES = """
import sys
from pathlib import Path
from tests.training.test_published import config_of
from training.run.exits import JobError
from training.transfer.devices import choose_device
device = choose_device(precision="fp32", kind="cpu")
for store in sys.argv[2:]:
    try:
        print(config_of(store, Path(sys.argv[1])).settled(device).start_from)
    except JobError as error:
        print(error)
"""


def test_of_several_processes_the_first_says_what_all_start_from(store, tmp_path):
    """The second sees other stores: it takes what the first found, or found missing."""
    together = {
        "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(free_port())
    }  # fmt: skip
    environment = os.environ | together | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    full, empty = str(store.folder), str(tmp_path / "empty")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SETTLES, str(tmp_path), *stores],
            env=environment | {"RANK": rank}, stdout=subprocess.PIPE, text=True,
        )
        for rank, stores in (("0", (full, empty)), ("1", (empty, full)))
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in processes]
    wanted = f"{Published(full, REGRESSOR, 1)}\nno release serves from the store, so that no {REGRESSOR} does\n"
    assert said == [wanted, wanted]


def test_versions_have_numbers_without_being_told(store):
    """New weights take the next that is free, everything else is what serves."""
    models = ("hand_segmenter", "radiograph_enhancer", REGRESSOR)
    numbers = numbered(store, {"hand_segmenter": 9}, models)
    assert numbers == {"hand_segmenter": 9, "radiograph_enhancer": 1, REGRESSOR: 1}
    with pytest.raises(BadConfigurationError, match="no hand_classifier serves"):
        numbered(store, {}, (*models[:2], "hand_classifier"))


def test_a_version_that_was_written_before_a_kill_keeps_its_number(store, tmp_path):
    """The same weights with the same card, or a claim with the same token; else another version."""
    path, card = tmp_path / "model.onnx", {"seed": 1}
    path.write_bytes(store.read(f"{REGRESSOR}/1/model.onnx"))

    def publish(card, token="ours"):
        return publish_new(store, REGRESSOR, None, path, card, token=token)

    assert [publish(card), publish(card), publish({"seed": 2})] == [2, 2, 3]
    claim = {"token": "ours"}
    store.create(f"{REGRESSOR}/4/claim", json.dumps(claim).encode())
    assert [publish({"seed": 5}, token="another's"), publish({"seed": 6})] == [5, 6]
    store.create(f"{REGRESSOR}/7/claim", json.dumps(claim).encode())
    assert [publish(card), json.loads(store.read(f"{REGRESSOR}/7/card.json"))["seed"]] == [7, 1]


def test_what_was_proven_of_other_weights_is_proven_anew(tmp_path):
    """Nor does a file count that was changed since, or that is no more there."""
    torch.manual_seed(0)
    contract, images = CONTRACTS["radiograph_enhancer"], np.zeros((1, 1, HAND_PX, HAND_PX), np.float32)
    made = Proven.of(UNetGenerator().eval(), contract, tmp_path, made_by="these weights", published=None, images=images)
    assert Proven.kept(tmp_path, "these weights", made.path) == made
    assert Proven.kept(tmp_path, "other weights", made.path) is None
    with pytest.raises(BadConfigurationError, match="under this number: ONNX differs from torch"):
        Proven.of(UNetGenerator().eval(), contract, tmp_path, made_by="others", published=made.path, images=images + 1)
    made.path.write_bytes(made.path.read_bytes()[:-1])
    assert Proven.kept(tmp_path, "these weights", made.path) is None
    made.path.unlink()
    assert Proven.kept(tmp_path, "these weights", made.path) is None
