"""What the publishing job asks of the model store before it starts, and how it tells what the store answers."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.core.adapters.model_repository import RELEASES, ROUTING, card_of
from services.core.adapters.publishing import (
    claims,
    manifest_path,
    next_version,
    publish_model,
    read_current,
    read_release,
    set_current,
)
from services.core.adapters.release_manifest import release_to_json
from services.core.adapters.signing import sign
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS
from services.core.domain.release import CARD, WEIGHTS, Release
from services.core.errors import (
    ConfigurationError,
    ModelContractError,
    ReleaseError,
    StoreUnavailableError,
    UnknownReleaseError,
)
from training.publish.digests import digest
from training.run.exits import BadConfigurationError, FailedError, StoreUnwritableError
from training.run.results import write_json
from training.run.room import whole

NOTE: Final = "publishing.json"
CLAIMANT: Final = "claimant"


@contextmanager
def store_errors() -> Iterator[None]:
    """The store's errors as a job's: it does not answer now, which may pass; it refuses, or it lacks what is asked for.

    Raises BadConfigurationError, StoreUnwritableError, FailedError.
    """
    try:
        yield
    except (ConfigurationError, ModelContractError, UnknownReleaseError) as error:
        raise BadConfigurationError(str(error)) from error
    except StoreUnavailableError as error:
        raise FailedError(str(error)) from error
    except ReleaseError as error:
        raise StoreUnwritableError(str(error)) from error


def check_release(store: Store, release_id: str, signing_key: Path | None) -> None:
    """Find out early what would only fail at the end. Raises BadConfigurationError, and as the store does."""
    if store.exists(manifest_path(release_id)):
        raise BadConfigurationError(f"release {release_id} is in the store already; releases never change")
    if signing_key is not None:
        sign(b"", name=release_id, private_key=signing_key)


def may_move_pointer(store: Store) -> bool:
    """Whether nobody else decides which release answers: where a release service does, it alone lets releases in."""
    return not store.exists(f"{RELEASES}/{ROUTING}.json")


def numbered(store: Store, given: Mapping[str, int], models: Sequence[str]) -> dict[str, int]:
    """The version of each model: the one that is given, else the one that serves.

    Raises BadConfigurationError where nothing serves that could be taken, and as the store does.
    """
    current = read_current(store)
    versions = (read_release(store, current).models if current else {}) | dict(given)
    if absent := [model for model in models if model not in versions]:
        raise BadConfigurationError(f"versions: no {', '.join(absent)} serves from the store; say which is to be taken")
    return {model: versions[model] for model in models}


def publish_new(
    store: Store, model: str, version: int | None, weights: Path, card: Mapping[str, object], *, token: str
) -> int:
    """Publish weights with their card as this version, or as the next that is free; return its number.

    The last version is gone on with if it is these weights with this card, or was claimed with this `token`: a run of
    this publisher was killed after it. Raises as `publish_model` does.
    """
    if version is None:
        version = next_version(store, model)
        if version > 1 and _is(store, model, version - 1, weights, card):
            return version - 1
        if version > 1 and claims(store, model, version - 1, token):
            version -= 1
    publish_model(store, CONTRACTS[model], version, weights, card, token=token)
    return version


def _is(store: Store, model: str, version: int, weights: Path, card: Mapping[str, object]) -> bool:
    place = f"{model}/{version}/{CARD}"
    if not store.exists(place):
        return False
    there = card_of(store.read(place), model, version, place=place)
    identity = {"model": model, "version": version, "model_sha256": digest(weights)}
    return there == json.loads(json.dumps({**card, **identity}, default=str))


def published_weights(store: Store, versions: Mapping[str, int], folder: Path) -> dict[str, Path]:
    """Copies of those versions that the store holds, by model, each with its card beside it. Raises ReleaseError."""
    found = {}
    for model, version in versions.items():
        if store.exists(f"{model}/{version}/{CARD}"):
            found[model] = folder / model / str(version) / WEIGHTS
            found[model].parent.mkdir(parents=True, exist_ok=True)
            found[model].with_name(CARD).write_bytes(store.read(f"{model}/{version}/{CARD}"))
            store.download(f"{model}/{version}/{WEIGHTS}", found[model])
    return found


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a run is about to publish, noted in its folder: one that is started again knows a release as its own.

    `config_sha256` is of the configuration: a release of the same id that was made with another is not what is wanted.
    """

    folder: Path
    config_sha256: str

    @property
    def token(self) -> str:
        """By which a claim in the store is known as this folder's, whichever of its runs made it.

        Raises StoreUnwritableError.
        """
        path = self.folder / CLAIMANT
        if not path.exists():
            with whole(path) as file:
                file.write(secrets.token_hex(8).encode())
        return path.read_text()

    def note(self, store: Store, release: Release) -> None:
        """To be called last before the release is published. Raises ReleaseError."""
        noted = {
            "config_sha256": self.config_sha256,
            "manifest": json.loads(release_to_json(release)),
            "current": read_current(store),
        }
        self._write(noted)

    def ended(self) -> None:
        """All is done: from here on the pointer is others' to move, also back, and what comes next claims anew."""
        (self.folder / CLAIMANT).unlink(missing_ok=True)
        self._write(json.loads((self.folder / NOTE).read_text()) | {"current": None})

    def _write(self, noted: Mapping[str, object]) -> None:
        write_json(self.folder / NOTE, noted)

    def finished(self, store: Store, release_id: str) -> bool:
        """Whether the release in the store is this run's, stopped after it was written; the pointer then names it too.

        A pointer that somebody has moved since stays where it is. Raises ReleaseError.
        """
        note = self.folder / NOTE
        if not store.exists(manifest_path(release_id)) or not note.exists():
            return False
        noted = json.loads(note.read_text())
        # Digests are added as it is published; they are of versions, which never change.
        found = json.loads(release_to_json(replace(read_release(store, release_id), files={})))
        if (noted["config_sha256"], noted["manifest"]) != (self.config_sha256, found):
            return False
        if may_move_pointer(store) and read_current(store) == noted["current"]:
            set_current(store, release_id)
        self.ended()
        return True
