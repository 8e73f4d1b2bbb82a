"""Seeding an empty store, on a folder and on a real S3 server: once, whole, and only with what is trusted."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.core.adapters.model_repository import ModelRepository
from services.core.adapters.publishing import next_version, read_current, release_ids
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.domain.contracts import ENHANCER
from services.core.errors import ReleaseError
from services.core.runtime.settings import EMBEDDED_REPOSITORY
from services.release.catalogue import StoreCatalogue
from services.release.seed import Shipped, seed
from services.release.sync import Syncer
from tests.keys import make_keys
from tests.models import RELEASE_ID, publish_tiny, tiny_release
from tests.serving import child_environment

AT_ONCE = 4


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Those that the release of `shipped` is signed with."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, keys):
    """A small release as one would be shipped."""
    root = tmp_path_factory.mktemp("shipped")
    publish_tiny(Store(str(root)), tiny_release(), private_key=keys.private)
    return Shipped.read(root)


def test_what_is_seeded_is_served_as_published(url, shipped, keys, tmp_path):
    """The sync takes it with its signature, the release service finds it whole, no number is given twice."""
    store, trust = Store(url), Trust((keys.public,))
    assert seed(store, shipped) == RELEASE_ID
    Syncer(store, tmp_path / "copy", trust).round()
    assert ModelRepository(tmp_path / "copy").get() == shipped.release
    assert StoreCatalogue(store, trust).verify(RELEASE_ID).files == 6
    assert next_version(store, ENHANCER) == 2
    assert store.list(f"{ENHANCER}/1") == ["card.json", "claim", "model.onnx"]
    assert store.exists(f"{ENHANCER}/config.pbtxt")


def test_a_store_that_names_a_release_meanwhile_keeps_it(url, shipped):
    """Somebody who publishes while we seed was asked for that release; ours is there beside it."""
    store = Store(url)
    store.create("releases/current", b"tiny-9\n")
    assert seed(store, shipped) == read_current(store) == "tiny-9"
    assert release_ids(store) == [RELEASE_ID]


def test_several_at_once_leave_one_whole_release(url, shipped, keys):
    """All of them say the same, and none fails."""
    start = threading.Barrier(AT_ONCE)

    def one(_):
        start.wait(30)
        return seed(Store(url), shipped)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(one, range(AT_ONCE))) == [RELEASE_ID] * AT_ONCE
    assert StoreCatalogue(Store(url), Trust((keys.public,))).verify(RELEASE_ID)


class KilledError(BaseException):
    """What ends a process that is killed: nothing is cleared up behind it."""


class KilledStore(Store):
    """A store whose user is killed after so many files; each is written whole or not at all."""

    left = 0

    def create(self, path, data):
        """Write another, if any is left."""
        if not self.left:
            raise KilledError
        self.left -= 1
        super().create(path, data)


def test_one_that_is_killed_is_finished_by_the_next(tmp_path, shipped, keys):
    """Wherever it happens; until then the store names no release, and holds none that is not whole."""
    files = [path for path, _ in shipped.files()]
    for number in range(len(files) + 1):
        store = KilledStore(str(tmp_path / str(number)))
        store.left = number
        with pytest.raises(KilledError):
            seed(store, shipped)
        assert read_current(store) == ""
        whole = number == len(files)
        assert release_ids(store) == ([RELEASE_ID] if whole else [])
        again = Store(str(tmp_path / str(number)))
        assert seed(again, shipped) == RELEASE_ID
        assert StoreCatalogue(again, Trust((keys.public,))).verify(RELEASE_ID)


def test_what_another_published_is_not_taken_for_ours(url, shipped):
    """A version of the same number is in the way: it is said which file, and no pointer is set."""
    store = Store(url)
    store.create(f"{ENHANCER}/1/model.onnx", b"another's")
    with pytest.raises(ReleaseError, match=f"^{ENHANCER}/1/model.onnx: is another's"):
        seed(store, shipped)
    assert read_current(store) == ""


def run(store, **values):
    """The process: its exit status and what it says."""
    command = [sys.executable, "-m", "services.release.seed"]
    done = subprocess.run(
        command, env=child_environment(STORE=store, **values), capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stderr)


def test_the_process_seeds_the_embedded_release_once(tmp_path):
    """The second time there is nothing to do; what the keys do not trust leaves an empty store, and is no failure."""
    store, keys = tmp_path / "store", make_keys(tmp_path)
    status, told = run(store, TRUSTED_KEY_FILES=keys.public)
    assert (status, told["event"]) == (0, "not seeded, since what is shipped is not trusted")
    assert "is not signed" in told["reason"]
    assert not store.exists()
    current = (EMBEDDED_REPOSITORY / "releases" / "current").read_text().strip()
    status, told = run(store)
    assert (status, told["event"], told["current"]) == (0, "seeded", current)
    Syncer(Store(str(store)), tmp_path / "copy", Trust()).round()
    assert ModelRepository(tmp_path / "copy").get() == ModelRepository(EMBEDDED_REPOSITORY).get()
    status, told = run(store)
    assert (status, told["event"]) == (0, "not seeded, since the store names a release")


def test_a_store_that_cannot_be_written_is_told(tmp_path):
    """With a status that stops an installation."""
    (tmp_path / "store").write_text("a file")
    status, told = run(tmp_path / "store")
    assert (status, told["event"]) == (1, "cannot seed")
