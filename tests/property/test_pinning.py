"""A signature over the manifest holds all that the manifest pins: whatever byte of it is altered, nothing is let in."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.adapters.model_repository import ModelRepository, verified_model_bytes
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.errors import ReleaseError
from services.release.sync import Syncer
from tests.keys import make_keys
from tests.models import RELEASE_ID, publish_tiny, tiny_release

PATHS = (*tiny_release().paths, f"releases/{RELEASE_ID}.json", f"releases/{RELEASE_ID}.sig")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A signed release in a store, and a trust in its key."""
    folder = tmp_path_factory.mktemp("published")
    keys = make_keys(folder)
    store = Store(str(folder / "store"))
    publish_tiny(store, tiny_release(), private_key=keys.private)
    return store, Trust((keys.public,))


def altered(content, data):
    """Bytes with one byte changed, taken out, or put in."""
    place = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["change", "take out", "put in"]))
    if kind == "change":
        return content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    return content[:place] + (content[place + 1 :] if kind == "take out" else bytes(1) + content[place:])


@settings(max_examples=60)
@given(st.sampled_from(PATHS), st.data())
def test_whatever_is_altered_in_the_store_is_not_let_in(published, path, data):
    """Refused; or, where only the form of the signature changed and not what it says, let in with what was signed."""
    store, trust = published
    content = store.read(path)
    store.replace(path, altered(content, data))
    try:
        with TemporaryDirectory() as folder:
            root = Path(folder)
            try:
                Syncer(store, root, trust).fetch(RELEASE_ID)
            except ReleaseError:
                assert [entry.name for entry in root.iterdir()] == [".sync.lock"]
                return
            assert path.endswith(".sig")
            for pinned in tiny_release().paths:
                assert (root / pinned).read_bytes() == store.read(pinned)
    finally:
        store.replace(path, content)


@settings(max_examples=60)
@given(st.sampled_from(tiny_release().paths), st.data())
def test_whatever_is_altered_in_the_copy_is_not_loaded(published, path, data):
    """Weights and their card are bound to the manifest, also when a runtime reads them before they are restored."""
    store, trust = published
    with TemporaryDirectory() as folder:
        root = Path(folder)
        Syncer(store, root, trust).round()
        content = (root / path).read_bytes()
        (root / path).chmod(0o644)
        (root / path).write_bytes(altered(content, data))
        model, version, _ = path.split("/")
        with pytest.raises(ReleaseError):
            verified_model_bytes(root, model, int(version))
        Syncer(store, root, trust).round()
        assert (root / path).read_bytes() == content
        assert ModelRepository(root).get().id == RELEASE_ID
