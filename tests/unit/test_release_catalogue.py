"""The release service's state in a real store: whole after any end, and the pointer where it should be."""

import pytest

from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.domain.routing import Routing
from services.core.errors import ReleaseError
from services.release.catalogue import ROUTING, StoreCatalogue
from services.release.state import Event, State, state_to_json
from tests.models import publish_tiny, tiny_release

ONE, TWO, THREE = "tiny-1", "tiny-2", "tiny-3"


@pytest.fixture
def store(tmp_path):
    """A store of three releases, the first being current."""
    made = Store(str(tmp_path / "store"))
    for number, release in enumerate((ONE, TWO, THREE), 1):
        publish_tiny(made, tiny_release(release, version=number), current=number == 1)
    return made


@pytest.fixture
def catalogue(store):
    """What the release service sees of it."""
    return StoreCatalogue(store, Trust())


def promoted(state, release):
    """The state after a promotion."""
    return state.routed(state.routing.promoted(release), release, Event.now("ops", "promote"))


def test_what_was_written_is_read(catalogue, store):
    """Routing, events and pointer, and no trace of the writing."""
    state = promoted(catalogue.read_state(), TWO)
    catalogue.write_state(state)
    assert catalogue.read_state() == state
    assert store.read("releases/current") == b"tiny-2\n"


def test_a_decision_that_was_killed_half_way_is_finished(catalogue, store):
    """The routing is there, the pointer is not moved: it was decided, and nobody is taken for a person."""
    first = promoted(catalogue.read_state(), TWO)
    catalogue.write_state(first)
    second = promoted(first, THREE)
    store.replace(ROUTING, state_to_json(State(**{**_fields(second), "replaces": TWO})))
    assert catalogue.read_state().routing == Routing(THREE, previous=TWO)
    assert store.read("releases/current") == b"tiny-3\n"


def test_a_pointer_that_a_person_moved_counts(catalogue, store):
    """Also back to where it was before: that is no half decision."""
    catalogue.write_state(promoted(catalogue.read_state(), TWO))
    store.replace("releases/current", b"tiny-1\n")
    state = catalogue.read_state()
    assert state.routing == Routing(ONE, previous=TWO)
    assert state.events[ONE][-1].caller == "unknown"


def test_a_pointer_that_cannot_be_moved_leaves_all_as_it_was(catalogue, store, monkeypatch):
    """What could not be kept was not decided, and the store says nothing else."""
    catalogue.write_state(promoted(catalogue.read_state(), TWO))
    before, replace = store.read(ROUTING), store.replace

    def refusing(path, data):
        if path == "releases/current":
            raise ReleaseError("permission denied", field=path)
        replace(path, data)

    monkeypatch.setattr(store, "replace", refusing)
    with pytest.raises(ReleaseError, match="permission denied"):
        catalogue.write_state(promoted(catalogue.read_state(), THREE))
    assert store.read(ROUTING) == before


def test_what_was_being_let_in_is_forgotten_by_a_restart(catalogue):
    """Nobody waits for it any more, so that nothing is loaded for it."""
    catalogue.write_state(State(Routing(ONE), candidates=(TWO,)))
    assert catalogue.read_state().candidates == ()


def _fields(state):
    return {name: getattr(state, name) for name in state.__slots__}
