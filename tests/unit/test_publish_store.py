"""What the publishing job asks of the store first, and how it ends where the store cannot answer."""

import pytest

from services.core.adapters.publishing import publish_release, read_current, set_current
from services.core.adapters.store import Store
from services.core.domain.contracts import ENHANCER, SEGMENTER
from services.core.errors import (
    ConfigurationError,
    ModelContractError,
    ReleaseError,
    StoreUnavailableError,
    UnknownReleaseError,
)
from tests.models import RELEASE_ID, publish_tiny, tiny_release
from training.publish.store import Attempt, check_release, may_move_pointer, published_weights, store_errors
from training.run.exits import BadConfigurationError, FailedError, StoreUnwritableError


@pytest.fixture
def store(tmp_path):
    """A store with one release."""
    store = Store(str(tmp_path / "store"))
    publish_tiny(store, tiny_release())
    return store


def test_what_would_fail_at_the_end_is_told_at_the_start(store, tmp_path):
    """An id that is taken or none, a key that cannot sign."""
    check_release(store, "tiny-2", None)
    with pytest.raises(BadConfigurationError, match="release tiny-1 is in the store already"):
        check_release(store, RELEASE_ID, None)
    with pytest.raises(BadConfigurationError, match="absent: is no private key"), store_errors():
        check_release(store, "tiny-2", tmp_path / "absent")
    with pytest.raises(BadConfigurationError, match="no id of a release"), store_errors():
        check_release(store, "../tiny", None)


def test_versions_of_the_store_are_copied_and_others_are_absent(store, tmp_path):
    """A version that is only claimed is none."""
    store.create(f"{SEGMENTER}/2/claim", b"{}")
    found = published_weights(store, {ENHANCER: 1, SEGMENTER: 2}, tmp_path / "copies")
    assert set(found) == {ENHANCER}
    assert found[ENHANCER].read_bytes() == store.read(f"{ENHANCER}/1/model.onnx")


def test_the_pointer_is_the_release_services_where_there_is_one(store):
    """Training never decides what serves; without a release service somebody has to."""
    assert may_move_pointer(store)
    store.create("releases/routing.json", b"{}")
    assert not may_move_pointer(store)


def test_a_run_that_is_started_again_knows_its_own_release(store, tmp_path):
    """By what it noted; what another configuration, another run or nobody noted is somebody else's."""
    mine, fresh = Attempt(tmp_path / "work", "a"), tiny_release(release_id="tiny-2")
    assert not mine.finished(store, RELEASE_ID)
    mine.note(store, fresh)
    assert not mine.finished(store, "tiny-2"), "it was stopped before"
    publish_release(store, fresh, current=False)
    assert not Attempt(tmp_path / "work", "b").finished(store, "tiny-2")
    assert not Attempt(tmp_path / "elsewhere", "a").finished(store, "tiny-2")
    assert not mine.finished(store, RELEASE_ID), "which is another release"
    assert mine.finished(store, "tiny-2")
    assert read_current(store) == "tiny-2", "it was stopped before the pointer"
    set_current(store, RELEASE_ID)
    assert mine.finished(store, "tiny-2")
    assert read_current(store) == RELEASE_ID, "who goes back to another release is not overruled by a second try"


def test_a_pointer_that_was_moved_since_stays(store, tmp_path):
    """Somebody has decided anew, or a release service decides."""
    mine, fresh = Attempt(tmp_path / "work", "a"), tiny_release(release_id="tiny-2")
    mine.note(store, fresh)
    publish_release(store, fresh, current=False)
    publish_release(store, tiny_release(release_id="tiny-3"), current=True)
    assert mine.finished(store, "tiny-2")
    assert read_current(store) == "tiny-3"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigurationError("x"), BadConfigurationError),
        (ModelContractError("x"), BadConfigurationError),
        (UnknownReleaseError("x"), BadConfigurationError),
        (ReleaseError("x"), StoreUnwritableError),
        (StoreUnavailableError("x"), FailedError),
        (StoreUnwritableError("x"), StoreUnwritableError),
    ],
)
def test_errors_of_the_store_end_the_job_with_their_exit_code(error, kind):
    """What trying again would not help with is told apart from a store that refuses, and one that is away."""
    with pytest.raises(kind, match="x"), store_errors():
        raise error
