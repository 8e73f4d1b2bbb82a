"""Publishing into a store, on a folder and on a real S3 server: whole or not at all, once, and told why where not."""

import dataclasses
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import onnx
import pytest

from services.core.adapters.model_repository import ModelRepository
from services.core.adapters.publishing import (
    claims,
    next_version,
    publish_model,
    publish_release,
    read_current,
    read_release,
    release_ids,
    set_current,
)
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS, ENHANCER, SEGMENTER
from services.core.errors import ModelContractError, ReleaseError, UnknownReleaseError
from tests.keys import make_keys
from tests.models import RELEASE_ID, enhancer, publish_tiny, segmenter, tiny_release

PUBLISHERS = 4
CARD = {"trained_on": "nothing: made by hand"}


@pytest.fixture
def store(url):
    """The same, opened."""
    return Store(url)


@pytest.fixture
def weights(tmp_path):
    """An enhancer's."""
    onnx.save(enhancer(), str(tmp_path / "weights"))
    return tmp_path / "weights"


def contents(store, *folders):
    """All files in these folders, by their place."""
    paths = [f"{folder}/{name}" for folder in folders for name in store.list(folder)]
    return {path: store.read(path) for path in paths}


def test_a_version_is_there_with_its_card(store, weights):
    """The file as it was, and a card that says which it is; the claim stays, so that no number is given twice."""
    publish_model(store, CONTRACTS[ENHANCER], 3, weights, CARD)
    assert store.list(f"{ENHANCER}/3") == ["card.json", "claim", "model.onnx"]
    assert store.read(f"{ENHANCER}/3/model.onnx") == weights.read_bytes()
    card = json.loads(store.read(f"{ENHANCER}/3/card.json"))
    digest = sha256(weights.read_bytes()).hexdigest()
    assert card == {**CARD, "model": ENHANCER, "version": 3, "model_sha256": digest}


def test_a_release_states_the_digest_of_every_file_that_it_pins(store):
    """What is stated is what the store holds, and what was published is what is read."""
    release = publish_tiny(store, tiny_release())
    assert release == read_release(store, RELEASE_ID)
    assert dataclasses.replace(release, files={}) == tiny_release()
    assert {path: sha256(store.read(path)).hexdigest() for path in release.paths} == release.files
    assert (release_ids(store), read_current(store)) == ([RELEASE_ID], RELEASE_ID)


def test_the_pointer_moves_only_where_told(store):
    """A release can be published for others to let in; the pointer names only what is there."""
    assert read_current(store) == ""
    publish_tiny(store, tiny_release())
    publish_tiny(store, tiny_release("tiny-2"), current=False)
    assert (release_ids(store), read_current(store)) == ([RELEASE_ID, "tiny-2"], RELEASE_ID)
    set_current(store, "tiny-2")
    assert read_current(store) == "tiny-2"
    for name in ("tiny-3", "../tiny-2", "routing"):
        with pytest.raises(UnknownReleaseError):
            set_current(store, name)
    with pytest.raises(UnknownReleaseError, match="no release 'tiny-3'"):
        read_release(store, "tiny-3")


def test_versions_and_releases_never_change(store, weights):
    """Neither can be written twice, and the first stays as it was, also where it is older than claims are."""
    publish_tiny(store, tiny_release())
    before = contents(store, f"{ENHANCER}/1", "releases")
    for _ in range(2):
        with pytest.raises(ReleaseError, match=f"{ENHANCER}/1: is published already"):
            publish_model(store, CONTRACTS[ENHANCER], 1, weights, {})
        with pytest.raises(ReleaseError, match="never change"):
            publish_release(store, tiny_release(), current=True)
        assert contents(store, f"{ENHANCER}/1", "releases") == before
        store.delete(f"{ENHANCER}/1/claim")
        before = contents(store, f"{ENHANCER}/1", "releases")


def test_numbers_go_on_from_the_highest_that_was_ever_given(store, weights):
    """Also from one that was deleted, or whose publisher was killed: its claim is still there."""
    assert next_version(store, ENHANCER) == 1
    publish_model(store, CONTRACTS[ENHANCER], 9, weights, CARD)
    publish_model(store, CONTRACTS[ENHANCER], 10, weights, CARD)
    for name in ("card.json", "model.onnx"):
        store.delete(f"{ENHANCER}/10/{name}")
    assert next_version(store, ENHANCER) == 11
    with pytest.raises(ReleaseError, match=f"was stopped in it, .*then delete {ENHANCER}/10/claim"):
        publish_model(store, CONTRACTS[ENHANCER], 10, weights, CARD)


def at_once(publish):
    """What comes of several who publish at the same moment: what each gives, or the reason why not."""
    start = threading.Barrier(PUBLISHERS)

    def one(number):
        start.wait(30)
        try:
            return publish(number)
        except ReleaseError as error:
            return error.reason

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        return list(pool.map(one, range(PUBLISHERS)))


def test_of_two_who_publish_a_version_at_once_one_wins(url, weights):
    """The version is the winner's, whole; the others are told that another has it."""
    outcomes = at_once(
        lambda number: publish_model(Store(url), CONTRACTS[ENHANCER], 1, weights, {"publisher": number}) or number
    )
    [winner] = [outcome for outcome in outcomes if isinstance(outcome, int)]
    told = [outcome for outcome in outcomes if outcome != winner]
    assert all("another publishes this version" in text or "is published already" in text for text in told)
    assert json.loads(Store(url).read(f"{ENHANCER}/1/card.json"))["publisher"] == winner
    assert Store(url).list(f"{ENHANCER}/1") == ["card.json", "claim", "model.onnx"]


def test_of_two_who_publish_a_release_at_once_one_wins(url, tmp_path):
    """Manifest and signature are those of the same publisher."""
    keys = [make_keys(tmp_path, str(number)) for number in range(PUBLISHERS)]
    publish_tiny(Store(url), tiny_release())
    made = tiny_release("tiny-2")
    outcomes = at_once(lambda n: publish_release(Store(url), made, private_key=keys[n].private, current=False) and n)
    [winner] = [outcome for outcome in outcomes if isinstance(outcome, int)]
    manifest, signature = (Store(url).read(f"releases/tiny-2.{kind}") for kind in ("json", "sig"))
    assert Trust((keys[winner].public,)).verify(manifest, signature, name="tiny-2")
    assert len(set(outcomes) - {winner}) >= 1


def test_what_does_not_load_is_not_published(store, tmp_path):
    """No model, one with other tensors, a file that is not there: refused before the number is claimed."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"not a model")
    with pytest.raises(ModelContractError, match="no model that loads"):
        publish_model(store, CONTRACTS[ENHANCER], 1, weights, CARD)
    onnx.save(segmenter(), str(weights))
    with pytest.raises(ModelContractError, match=f"{ENHANCER} has inputs"):
        publish_model(store, CONTRACTS[ENHANCER], 1, weights, CARD)
    with pytest.raises(ReleaseError, match="absent: not found"):
        publish_model(store, CONTRACTS[ENHANCER], 1, tmp_path / "absent", CARD)
    assert store.list(ENHANCER) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"models": dict.fromkeys(CONTRACTS, 7)}, "has no version 7"),
        ({"models": {SEGMENTER: 1}}, "no version of"),
        ({"interval_cells": ()}, "the intervals for male do not cover every age once"),
        ({"baseline_mae_months": None}, "baseline_mae_months"),
        ({"id": "../tiny"}, "is no id of a release"),
        ({"id": "routing"}, "is no id of a release"),
    ],
)
def test_a_release_that_nobody_could_serve_is_not_published(store, changes, reason):
    """What it pins is not there, or it is not calibrated, or its name would be a path."""
    publish_tiny(store, tiny_release())
    before = contents(store, "releases")
    with pytest.raises((ReleaseError, UnknownReleaseError), match=reason):
        publish_release(store, dataclasses.replace(tiny_release("tiny-2"), **changes), current=True)
    assert contents(store, "releases") == before


def test_a_release_of_an_altered_version_is_not_published(store):
    """Digests are those of what the store holds: where that is not what its card describes, nobody vouches for it."""
    publish_tiny(store, tiny_release())
    store.replace(f"{ENHANCER}/1/model.onnx", b"altered")
    with pytest.raises(ReleaseError, match=f"{ENHANCER}/1/model.onnx: the file is not the one that its card describes"):
        publish_release(store, tiny_release("tiny-2"), current=True)
    assert release_ids(store) == [RELEASE_ID]


def test_a_signature_without_its_release_is_told(store, tmp_path):
    """Whoever was killed between both leaves it, and the next one learns what to do."""
    keys = make_keys(tmp_path)
    publish_tiny(store, tiny_release())
    store.create("releases/tiny-2.sig", b"of one that was killed")
    with pytest.raises(ReleaseError, match=r"then delete releases/tiny-2\.sig"):
        publish_release(store, tiny_release("tiny-2"), private_key=keys.private, current=True)
    assert read_current(store) == RELEASE_ID


FULL = """
import resource, signal, sys
from pathlib import Path
from services.core.adapters.publishing import publish_model
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS, ENHANCER
from services.core.errors import ReleaseError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    publish_model(Store(sys.argv[1]), CONTRACTS[ENHANCER], 2, Path(sys.argv[2]), {})
except ReleaseError as error:
    print(error)
"""


def test_where_a_model_cannot_be_written_whole_nothing_of_it_stays(tmp_path):
    """As on a full disk: the claim is given back, and what serves is untouched."""
    store = Store(str(tmp_path / "store"))
    publish_tiny(store, tiny_release())
    model = enhancer()
    model.doc_string = "x" * 100_000
    onnx.save(model, str(tmp_path / "weights"))
    before = contents(store, "releases", f"{ENHANCER}/1"), store.list(ENHANCER)
    command = [sys.executable, "-c", FULL, tmp_path / "store", tmp_path / "weights"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"{ENHANCER}/2/model.onnx: file too large\n", done.stderr
    assert (contents(store, "releases", f"{ENHANCER}/1"), store.list(ENHANCER)) == before
    assert list((tmp_path / "store").rglob(".*")) == []
    assert ModelRepository(tmp_path / "store").get().id == RELEASE_ID
    publish_model(store, CONTRACTS[ENHANCER], 2, tmp_path / "weights", CARD)


class FullStore(Store):
    """A store whose disk is full when a manifest comes."""

    def create(self, path, data):
        """Write anything else."""
        if path.endswith(".json"):
            raise ReleaseError("no space left on device", field=path)
        super().create(path, data)


def test_where_a_manifest_cannot_be_written_its_signature_goes_too(url, store, tmp_path):
    """The id is free again, and the pointer names what it named."""
    keys = make_keys(tmp_path)
    publish_tiny(store, tiny_release())
    before = contents(store, "releases")
    with pytest.raises(ReleaseError, match=r"releases/tiny-2\.json: no space left on device"):
        publish_release(FullStore(url), tiny_release("tiny-2"), private_key=keys.private, current=True)
    assert contents(store, "releases") == before
    publish_release(store, tiny_release("tiny-2"), private_key=keys.private, current=True)
    assert read_current(store) == "tiny-2"


PUBLISH = """
import sys
from pathlib import Path
from services.core.adapters.publishing import publish_model
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS, ENHANCER
print("ready", flush=True)
for version in range(1, 1000):
    publish_model(Store(sys.argv[1]), CONTRACTS[ENHANCER], version, Path(sys.argv[2]), {})
"""


def test_a_publisher_that_is_killed_leaves_no_half_version(tmp_path, weights):
    """Whatever has a card is whole; the number that was claimed is not given again."""
    command = [sys.executable, "-c", PUBLISH, tmp_path / "store", weights]
    store = Store(str(tmp_path / "store"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        while next_version(store, ENHANCER) < 5:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    names = store.list(ENHANCER)
    complete = [name for name in names if store.exists(f"{ENHANCER}/{name}/card.json")]
    assert len(complete) >= 3
    for name in complete:
        assert store.read(f"{ENHANCER}/{name}/model.onnx") == weights.read_bytes()
    publish_model(store, CONTRACTS[ENHANCER], next_version(store, ENHANCER), weights, CARD)


def test_a_publisher_that_was_killed_takes_up_its_own_claim(store, weights):
    """With the token that it had; to another the version is taken."""
    store.create(f"{ENHANCER}/1/claim", json.dumps({"by": "it, before it was killed", "token": "ours"}).encode())
    store.replace(f"{ENHANCER}/1/model.onnx", b"half")
    assert [claims(store, ENHANCER, 1, token) for token in ("ours", "another's")] == [True, False]
    for token in ("another's", None):
        with pytest.raises(ReleaseError, match="another publishes this version, or was stopped in it"):
            publish_model(store, CONTRACTS[ENHANCER], 1, weights, CARD, token=token)
    publish_model(store, CONTRACTS[ENHANCER], 1, weights, CARD, token="ours")
    assert store.read(f"{ENHANCER}/1/model.onnx") == weights.read_bytes()
    assert not claims(store, ENHANCER, 1, "ours")
    with pytest.raises(ReleaseError, match="is published already"):
        publish_model(store, CONTRACTS[ENHANCER], 1, weights, CARD, token="ours")


def test_what_another_finished_meanwhile_stays(url, store, weights):
    """Of two with the same token, as from a copied folder, the one that comes too late takes nothing away."""

    class Overtaken(Store):
        def replace(self, path, data):
            super().replace(path, data)
            publish_model(store, CONTRACTS[ENHANCER], 1, weights, CARD, token="ours")

    with pytest.raises(ReleaseError, match="exists already"):
        publish_model(Overtaken(url), CONTRACTS[ENHANCER], 1, weights, {"seed": 2}, token="ours")
    assert json.loads(store.read(f"{ENHANCER}/1/card.json"))["trained_on"] == CARD["trained_on"]
    assert store.read(f"{ENHANCER}/1/model.onnx") == weights.read_bytes()


def test_a_signature_without_its_manifest_is_gone_on_with_by_the_same_key(store, tmp_path):
    """A publisher was killed between the two: the same bytes and the same key publish it; nothing else does."""
    keys, others = make_keys(tmp_path), make_keys(tmp_path, "another")
    publish_tiny(store, tiny_release())
    publish_release(store, tiny_release("tiny-2"), private_key=keys.private, current=False)
    manifest, signature = (store.read(f"releases/tiny-2.{kind}") for kind in ("json", "sig"))
    store.delete("releases/tiny-2.json")
    changed = dataclasses.replace(tiny_release("tiny-2"), interval_level=0.8)
    for release, key in ((tiny_release("tiny-2"), others.private), (changed, keys.private)):
        with pytest.raises(ReleaseError, match=r"then delete releases/tiny-2\.sig"):
            publish_release(store, release, private_key=key, current=False)
    publish_release(store, tiny_release("tiny-2"), private_key=keys.private, current=False)
    assert store.read("releases/tiny-2.json") == manifest
    assert store.read("releases/tiny-2.sig") == signature
