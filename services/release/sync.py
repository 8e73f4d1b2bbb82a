"""Keeps a verified copy of the releases that a store's routing names: `python -m services.release.sync`.

It runs beside every runtime, which reads the copy and never the store. Signature and digests are checked on the copy.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import structlog

from services.core.adapters.model_repository import CURRENT, RELEASES, ROUTING, card_of, release_of
from services.core.adapters.publishing import manifest_path, read_current, signature_path, text
from services.core.adapters.release_manifest import release_from_json
from services.core.adapters.routing_file import routing_from_json
from services.core.adapters.serving_copy import ServingCopy, sha256_of
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.adapters.store_errors import told
from services.core.adapters.triton_config import Flavour, config_pbtxt
from services.core.domain.contracts import CONTRACTS
from services.core.domain.release import CARD, WEIGHTS, Release
from services.core.errors import BoneageError, ConfigurationError, ReleaseError
from services.core.runtime.logs import configure_logs
from services.core.runtime.settings import (
    EMBEDDED_REPOSITORY,
    ModelSettings,
    ReleaseSettings,
    ServerSettings,
    StoreSettings,
    read_settings,
)
from services.release.settings import trusted_keys

POINTER_PATH: Final = f"{RELEASES}/{CURRENT}"
ROUTING_PATH: Final = f"{RELEASES}/{ROUTING}.json"
KEPT_S: Final = 600.0
"""Seconds that stay what nothing names any more: for calls that still run, and for a change of mind."""


class Settings(ServerSettings, ModelSettings, StoreSettings, ReleaseSettings):
    """The settings of a sync; of a server's it takes the log's level and whether to stop with standard input."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """That a release is here: who signed it (SHA-256 of the public key, empty where nobody had to), how many files."""

    key_sha256: str
    files: int


class Syncer:
    """Copies from `store` to the folder `repository` what `trust` lets in; `flavour` is that of Triton's instances."""

    def __init__(
        self,
        store: Store,
        repository: Path,
        trust: Trust,
        *,
        flavour: Flavour = "cpu",
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._trust, self._flavour, self._now_s = store, trust, flavour, now_s
        self._copy = ServingCopy(repository)
        self._digests: dict[str, Mapping[str, str]] = {}  # of the files of each release that is here, by their place
        self._failed: dict[str, str] = {}
        self._unwanted: dict[str, float] = {}
        self._log = structlog.get_logger()

    def fetch(self, release_id: str) -> Fetched:
        """Have a release here, whole and checked: what is missing is downloaded, what is altered is replaced.

        Raises ReleaseError where it is not to be had, not signed as it must be, or not what was signed; then nothing of
        it that was not here before is in place.
        """
        path = manifest_path(release_id)
        with self._copy.changing() as staging:
            manifest = self._store.read(path)
            signature_at = signature_path(release_id)
            signature = self._store.read(signature_at) if self._store.exists(signature_at) else None
            key = self._trust.verify(manifest, signature, name=path)
            release = release_of(manifest, release_id, place=path)
            digests = self._stated(release, path)
            self._place(release, self._downloaded(digests, staging), staging)
            made = self._configurations(release) | ({signature_at: signature} if signature else {}) | {path: manifest}
            known = self._digests.get(release_id, {})
            for place, content in made.items():  # the manifest last: one that is here is whole
                if place in known and not self._copy.is_right(place, known[place]):
                    self._log.error("altered, and replaced", file=place)
                self._copy.write(place, content, staging)
        self._digests[release_id] = {**digests, **{name: _sha256(content) for name, content in made.items()}}
        return Fetched(key, len(digests))

    def round(self) -> None:
        """Bring the copy to what the store's routing says. Raises ReleaseError where the store cannot be read.

        A release that cannot be had is logged, once, and keeps nothing else from being brought.
        """
        pointer = read_current(self._store)
        routing = self._store.read(ROUTING_PATH) if self._store.exists(ROUTING_PATH) else None
        named = routing_from_json(text(routing, ROUTING_PATH), source=ROUTING_PATH).releases if routing else ()
        wanted = tuple(dict.fromkeys((*named, *((pointer,) if pointer else ()))))
        if not wanted:  # an empty store is rather a wrong one: what is here stays
            raise ReleaseError("the store names no release", field=POINTER_PATH)
        here = {release_id for release_id in wanted if self._brought(release_id)}
        with self._copy.changing() as staging:
            if routing:
                self._copy.write(ROUTING_PATH, routing, staging)
            else:
                self._copy.remove(ROUTING_PATH, staging)
            if pointer in here:
                self._copy.write(POINTER_PATH, f"{pointer}\n".encode(), staging)
            self._remove_unwanted(wanted, staging)

    def _brought(self, release_id: str) -> bool:
        """Whether a release is here and right, after bringing it where it was not."""
        try:
            if self._is_right(release_id):
                return True
            fetched = self.fetch(release_id)
        except BoneageError as error:
            if self._failed.get(release_id) != str(error):
                self._failed[release_id] = str(error)
                self._log.error("release not fetched", release=release_id, reason=str(error))
            return False
        self._failed.pop(release_id, None)
        self._log.info("release fetched", release=release_id, files=fetched.files, key_sha256=fetched.key_sha256)
        return True

    def _is_right(self, release_id: str) -> bool:
        """Whether all that was fetched of a release is still what it was."""
        known = self._digests.get(release_id, {})
        return bool(known) and all(self._copy.is_right(path, digest) for path, digest in known.items())

    def _stated(self, release: Release, path: str) -> Mapping[str, str]:
        """Digests of all files of a release: its own statement, or that of its cards where it is older than these."""
        if unknown := sorted(set(release.models) - set(CONTRACTS)):
            raise ReleaseError(f"no such model: {', '.join(unknown)}", field=path)
        if release.files:
            return release.files
        if self._trust:
            raise ReleaseError("states no digests, so that its signature says nothing of its files", field=path)
        digests = {}
        for model, version in release.models.items():
            place = f"{model}/{version}/{CARD}"
            content = self._store.read(place)
            digests[place] = _sha256(content)
            digests[f"{model}/{version}/{WEIGHTS}"] = card_of(content, model, version, place=place)["model_sha256"]
        return digests

    def _downloaded(self, digests: Mapping[str, str], staging: Path) -> list[str]:
        """Copy what is not here, or not right here, to `staging`, and compare it there. Raises ReleaseError."""
        missing = [path for path, digest in digests.items() if not self._copy.is_right(path, digest)]
        for path in missing:
            target = staging / path
            with told(path):
                target.parent.mkdir(parents=True, exist_ok=True)
            self._store.download(path, target)
            with told(path):
                found = sha256_of(target)
            if found != digests[path]:
                raise ReleaseError("is not the file that the release was published with", field=path)
        return missing

    def _place(self, release: Release, fetched: Iterable[str], staging: Path) -> None:
        """Rename what was compared to its place: a version that is new all at once."""
        new = {f"{model}/{version}" for model, version in release.models.items()}
        new = {folder for folder in new if not self._copy.exists(folder)}
        for folder in sorted(new):
            self._copy.place_folder(staging / folder, folder)
        for path in fetched:
            if path.rpartition("/")[0] not in new:
                self._log.error("altered, and replaced", file=path)
                self._copy.place(staging / path, path)

    def _configurations(self, release: Release) -> dict[str, bytes]:
        return {
            f"{model}/config.pbtxt": config_pbtxt(CONTRACTS[model], flavour=self._flavour).encode()
            for model in release.models
        }

    def _remove_unwanted(self, wanted: Iterable[str], staging: Path) -> None:
        """Remove what nothing has named for `KEPT_S`; never what the pointer here names."""
        releases = {*wanted, ROUTING, self._copy.text(POINTER_PATH).strip()}
        versions = self._pinned(releases)
        there = {f"{RELEASES}/{name}.json" for name in self._copy.releases() if name not in releases}
        there |= {folder for folder in self._copy.versions() if folder not in versions}
        self._digests = {id_: known for id_, known in self._digests.items() if id_ in releases}
        now = self._now_s()
        self._unwanted = {path: self._unwanted.get(path, now) for path in there}
        for path in sorted(there, key=lambda path: not path.startswith(RELEASES)):  # manifests before what they pin
            if now - self._unwanted[path] >= KEPT_S:
                self._copy.remove(path, staging)
                if path.startswith(f"{RELEASES}/"):
                    self._copy.remove(path.removesuffix(".json") + ".sig", staging)
                self._log.info("removed, since nothing names it", file=path)

    def _pinned(self, release_ids: Iterable[str]) -> set[str]:
        """Folders NAME/VERSION that the manifests here of these releases pin. Raises ReleaseError for a damaged one."""
        pinned = set()
        for release_id in release_ids:
            place = f"{RELEASES}/{release_id}.json"
            if release_id != ROUTING and (manifest := self._copy.text(place)):
                models = release_from_json(manifest, source=place).models
                pinned |= {f"{model}/{version}" for model, version in models.items()}
        return pinned


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()


def run(syncer: Syncer, *, interval_s: float) -> NoReturn:
    """Rounds for ever; a store that is down is logged, once, and asked again."""
    failed = ""
    while True:
        reason = _failure(syncer)
        if reason and reason != failed:
            structlog.get_logger().error("store not read", reason=reason)
        elif failed and not reason:
            structlog.get_logger().info("store read again")
        failed = reason
        time.sleep(interval_s)


def _failure(syncer: Syncer) -> str:
    """Why a round failed; nothing where it did not."""
    try:
        syncer.round()
    except ReleaseError as error:
        return str(error)
    return ""


def syncer_of(settings: Settings) -> Syncer:
    """What the settings say. Raises ConfigurationError."""
    repository, store = settings.model_repository, Store(settings.store)
    if repository.resolve() in {EMBEDDED_REPOSITORY.resolve(), store.folder and store.folder.resolve()}:
        raise ConfigurationError("name a folder of its own: all else in it goes", field="BONEAGE_MODEL_REPOSITORY")
    return Syncer(store, repository, Trust(trusted_keys(settings)), flavour=settings.triton_flavour)


def main() -> None:
    """Run until SIGTERM; an error of the settings is one line of log and exit status 1."""
    configure_logs("info")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)  # at any moment: what a round was at, the next one begins anew
    try:
        settings = read_settings(Settings)
        configure_logs(settings.log_level)
        if settings.stop_with_stdin:
            threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
        run(syncer_of(settings), interval_s=settings.sync_interval_s)
    except BoneageError as error:
        structlog.get_logger().error("cannot sync", error=type(error).__name__, reason=str(error))
        sys.exit(1)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _stop_at_end_of_input() -> None:
    """What is written to standard input means nothing; that it has ended means that our parent has."""
    sys.stdin.buffer.read()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


if __name__ == "__main__":
    main()
