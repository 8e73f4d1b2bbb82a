"""Puts the embedded release into a store that names none yet: `python -m services.release.seed`.

With it a new installation answers before anything was trained. Every file is written exclusively and the pointer last,
so that several may do it at once, and one that is killed is finished by the next.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import structlog

from services.core.adapters.model_repository import ModelRepository, release_file
from services.core.adapters.publishing import (
    CLAIM,
    POINTER,
    manifest_path,
    read_current,
    signature_path,
    write_configuration,
)
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.adapters.store_errors import EXISTS, told
from services.core.domain.contracts import CONTRACTS
from services.core.domain.release import CARD, WEIGHTS, Release
from services.core.errors import BoneageError, ReleaseError
from services.core.runtime.logs import configure_logs
from services.core.runtime.settings import EMBEDDED_REPOSITORY, ServerSettings, StoreSettings, read_settings
from services.release.settings import trusted_keys

File = tuple[str, bytes]
"""A place in the store, and what is to be there."""
PUBLISH_FIRST: Final = "publish a release that one of the trusted keys has signed, as the current one"


class Settings(ServerSettings, StoreSettings):
    """The settings of a seed; of a server's it takes the log's level."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """The current release of a folder, with its manifest as it was signed, and the signature where there is one."""

    root: Path
    release: Release
    manifest: bytes
    signature: bytes | None

    @classmethod
    def read(cls, root: Path) -> Self:
        """From a folder. Raises ReleaseError where it is damaged."""
        release = ModelRepository(root).get()
        path = release_file(root, release.id)
        signature = path.with_suffix(".sig")
        with told(path.name):
            return cls(root, release, path.read_bytes(), signature.read_bytes() if signature.exists() else None)

    def check(self, trust: Trust) -> None:
        """Raises ReleaseError where nobody who has these keys would fetch it."""
        place = manifest_path(self.release.id)
        if trust.verify(self.manifest, self.signature, name=place) and not self.release.files:
            raise ReleaseError("states no digests, so that its signature says nothing of its files", field=place)

    def files(self) -> Iterator[File]:
        """All that is to be in the store, in the order of publishing: what has no card or manifest is not there."""
        claim = json.dumps({"by": "services.release.seed", "release": self.release.id}).encode()
        for model, version in self.release.models.items():
            folder = f"{model}/{version}"
            yield f"{folder}/{CLAIM}", claim
            for name in (WEIGHTS, CARD):
                with told(f"{folder}/{name}"):
                    content = (self.root / folder / name).read_bytes()
                yield f"{folder}/{name}", content
        if self.signature is not None:
            yield signature_path(self.release.id), self.signature
        yield manifest_path(self.release.id), self.manifest


def seed(store: Store, shipped: Shipped) -> str:
    """Put a release into a store that names none; gives the id that it names then, which may be another's.

    Raises ReleaseError where the store cannot be written, or where another's file is in the way.
    """
    for path, content in shipped.files():
        _put(store, path, content)
    for model in shipped.release.models:
        write_configuration(store, CONTRACTS[model])
    _create(store, POINTER, f"{shipped.release.id}\n".encode())
    return read_current(store)


def _put(store: Store, path: str, content: bytes) -> None:
    """Have exactly this there. Raises ReleaseError where something else is."""
    if not _create(store, path, content) and store.sha256(path) != sha256(content).hexdigest():
        reason = "is another's, though the store names no release: let its pointer name one, or take an empty store"
        raise ReleaseError(reason, field=path)


def _create(store: Store, path: str, content: bytes) -> bool:
    """Whether the file was not there, and now is. Raises ReleaseError."""
    try:
        store.create(path, content)
    except ReleaseError as error:
        if error.reason != EXISTS:
            raise
        return False
    return True


def run(settings: Settings) -> None:
    """Seed, or say why not. Raises BoneageError."""
    log, store, trust = structlog.get_logger(), Store(settings.store), Trust(trusted_keys(settings))
    if current := read_current(store):
        log.info("not seeded, since the store names a release", current=current)
        return
    shipped = Shipped.read(EMBEDDED_REPOSITORY)
    try:
        shipped.check(trust)
    except ReleaseError as error:
        log.warning("not seeded, since what is shipped is not trusted", reason=str(error), fix=PUBLISH_FIRST)
        return
    log.info("seeded", current=seed(store, shipped))


def main() -> None:
    """Exit status 1 where the store is not as it must be; 0 where there is nothing to do, or the keys forbid it."""
    configure_logs("info")
    try:
        settings = read_settings(Settings)
        configure_logs(settings.log_level)
        run(settings)
    except BoneageError as error:
        structlog.get_logger().error("cannot seed", error=type(error).__name__, reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
