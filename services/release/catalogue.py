"""The store as the release service uses it: manifests, state and pointer, and what may be deleted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from services.core.adapters.model_repository import release_of
from services.core.adapters.publishing import (
    CLAIM,
    POINTER,
    manifest_path,
    read_current,
    read_release,
    release_ids,
    set_current,
    signature_path,
)
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS
from services.core.domain.release import CARD, Release
from services.core.domain.routing import Routing
from services.core.errors import BoneageError, ReleaseError
from services.release.ports import Verified, Version
from services.release.state import Event, State, state_from_json, state_to_json

ROUTING: Final = "releases/routing.json"


class StoreCatalogue:
    """Fulfils `ports.Catalogue` for a store, with the keys that are trusted here.

    `check` is asked before every write, and raises where another process is the one who may.
    """

    def __init__(self, store: Store, trust: Trust, check: Callable[[], None] = lambda: None) -> None:
        self._store, self._trust, self._check = store, trust, check

    def ids(self) -> Sequence[str]:
        """All releases, in the order of their ids."""
        return release_ids(self._store)

    def release(self, release_id: str) -> Release:
        """A release as its manifest has it."""
        return read_release(self._store, release_id)

    def verify(self, release_id: str) -> Verified:
        """Check the signature over the manifest, the digest of every file, and that pixels are prepared as here."""
        read_release(self._store, release_id)  # an id that is none, or unknown, is told as that
        place, signature_at = manifest_path(release_id), signature_path(release_id)
        manifest = self._store.read(place)
        signature = self._store.read(signature_at) if self._store.exists(signature_at) else None
        key = self._trust.verify(manifest, signature, name=place)
        release = release_of(manifest, release_id, place=place)
        if key and not release.files:
            raise ReleaseError("states no digests, so that its signature says nothing of its files", field=place)
        for path, digest in release.files.items():
            if self._store.sha256(path) != digest:
                raise ReleaseError("is not the file that the release was published with", field=path)
        return Verified(key, len(release.files))

    def read_state(self) -> State:
        """What was decided last; where the pointer was moved since, that is what counts."""
        current = read_current(self._store)
        if not current:
            raise ReleaseError("names no release yet", field=POINTER)
        if not self._store.exists(ROUTING):
            return State(Routing(current))
        kept = state_from_json(self._store.read(ROUTING), source=ROUTING)
        state = replace(kept, candidates=(), replaces="")  # what was being let in is asked for again
        if kept.routing.current != current == kept.replaces:  # killed between the two: it was decided
            self._point_to(kept.routing.current)
            return state
        if kept.routing.current == current:
            return state
        moved = Event.now("unknown", "promote", "the pointer was moved in the store")
        return state.routed(Routing(current, previous=kept.routing.current), current, moved)

    def write_state(self, state: State) -> None:
        """The state first, the pointer last: who reads the pointer finds what it stands for.

        Where the pointer cannot be moved the state before comes back: what could not be kept was not decided.
        """
        current = read_current(self._store)
        if current == state.routing.current:
            self._keep(state_to_json(state))
            return
        before = self._store.read(ROUTING) if self._store.exists(ROUTING) else None
        self._keep(state_to_json(replace(state, replaces=current)))
        try:
            self._point_to(state.routing.current)
        except BoneageError:
            with suppress(BoneageError):  # what brought us here is what is told
                if before is None:
                    self._delete(ROUTING)
                else:
                    self._keep(before)
            raise
        self._keep(state_to_json(state))

    def versions(self) -> Sequence[Version]:
        """All versions that are whole."""
        return list(self._versions())

    def _versions(self) -> Iterator[Version]:
        for model in CONTRACTS:
            for name in self._store.list(model):
                if name.isdecimal() and self._store.exists(f"{model}/{name}/{CARD}"):
                    yield model, int(name)

    def delete_release(self, release_id: str) -> None:
        """The manifest first: what is half deleted is no release any more."""
        self._delete(manifest_path(release_id))
        self._delete(signature_path(release_id))

    def delete_version(self, version: Version) -> None:
        """The card first: what is half deleted is no version any more. The claim stays: no number is given twice."""
        folder = f"{version[0]}/{version[1]}"
        names = [name for name in self._store.list(folder) if name not in {CARD, CLAIM}]
        for name in (CARD, *names):
            self._delete(f"{folder}/{name}")

    def _keep(self, content: bytes) -> None:
        self._check()
        self._store.replace(ROUTING, content)

    def _point_to(self, release_id: str) -> None:
        self._check()
        set_current(self._store, release_id)

    def _delete(self, path: str) -> None:
        self._check()
        self._store.delete(path)
