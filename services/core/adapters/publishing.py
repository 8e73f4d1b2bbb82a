"""Versions and releases in the store: who publishes makes each whole or not at all, and none ever changes.

Of a version the claim comes first, and stays, so that a number is never given twice; the card comes last: what has none
is no version. Of a release the signature comes first and the manifest last: one that is there is whole.
"""

import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from services.core.adapters.model_repository import CURRENT, RELEASES, ROUTING, card_of
from services.core.adapters.release_manifest import RELEASE_ID, release_from_json, release_to_json
from services.core.adapters.signing import is_signed_with, sign
from services.core.adapters.store import Store
from services.core.adapters.store_errors import EXISTS, told
from services.core.adapters.triton_config import config_pbtxt
from services.core.domain.contracts import ModelContract
from services.core.domain.release import CARD, WEIGHTS, Release
from services.core.errors import ReleaseError, UnknownReleaseError

CLAIM: Final = "claim"
POINTER: Final = f"{RELEASES}/{CURRENT}"


def manifest_path(release_id: str) -> str:
    """Where the manifest of a release lies. Raises UnknownReleaseError for what is no id of one."""
    if not RELEASE_ID.fullmatch(release_id) or release_id == ROUTING:
        raise UnknownReleaseError(f"{release_id[:64]!r} is no id of a release", field="release")
    return f"{RELEASES}/{release_id}.json"


def signature_path(release_id: str) -> str:
    """Where its signature lies. Raises UnknownReleaseError."""
    return manifest_path(release_id).removesuffix(".json") + ".sig"


def release_ids(store: Store) -> list[str]:
    """All releases, in order of their ids. Raises ReleaseError."""
    stems = [name.removesuffix(".json") for name in store.list(RELEASES) if name.endswith(".json")]
    return [stem for stem in stems if RELEASE_ID.fullmatch(stem) and stem != ROUTING]


def read_release(store: Store, release_id: str) -> Release:
    """What the manifest says; neither signature nor digests are checked. Raises UnknownReleaseError, ReleaseError."""
    path = manifest_path(release_id)
    if not store.exists(path):
        raise UnknownReleaseError(f"the store has no release {release_id!r}", field="release")
    release = release_from_json(text(store.read(path), path), source=path)
    if release.id != release_id:
        raise ReleaseError(f"the manifest says that it is release {release.id!r}", field=path)
    return release


def read_current(store: Store) -> str:
    """The id that the pointer names; empty where there is no pointer. Raises ReleaseError."""
    return text(store.read(POINTER), POINTER).strip() if store.exists(POINTER) else ""


def set_current(store: Store, release_id: str) -> None:
    """Let the pointer name a release. Raises UnknownReleaseError, ReleaseError."""
    if not store.exists(manifest_path(release_id)):
        raise UnknownReleaseError(f"the store has no release {release_id!r}", field="release")
    store.replace(POINTER, f"{release_id}\n".encode())


def next_version(store: Store, model: str) -> int:
    """One more than the highest version that is there or claimed. Raises ReleaseError."""
    return 1 + max((int(name) for name in store.list(model) if name.isdecimal()), default=0)


def publish_model(
    store: Store,
    contract: ModelContract,
    version: int,
    weights: Path,
    card: Mapping[str, object],
    *,
    token: str | None = None,
) -> None:
    """Add a version: claimed first, its card written last, since what has no card is no version.

    A claim with this `token` is of the same publisher, killed before: it goes on. Raises ModelContractError for weights
    that do not load or have other tensors than agreed on; ReleaseError where the version exists, is another's, or
    cannot be written, and then nothing of it stays.
    """
    from services.core.adapters.inference_onnxruntime import open_session  # noqa: PLC0415 -- only publishing needs it

    with told(weights.name):
        content = weights.read_bytes()
    open_session(content, contract, threads=1)
    identity = {"model": contract.name, "version": version, "model_sha256": sha256(content).hexdigest()}
    with _claimed(store, f"{contract.name}/{version}", token or secrets.token_hex(8)) as folder:
        store.replace(f"{folder}/{WEIGHTS}", content)
        write_configuration(store, contract)
        store.create(f"{folder}/{CARD}", (json.dumps({**card, **identity}, indent=1, default=str) + "\n").encode())


def claims(store: Store, model: str, version: int, token: str) -> bool:
    """Whether a publisher with this token has claimed the version, and not published it yet. Raises ReleaseError."""
    claim = f"{model}/{version}/{CLAIM}"
    if store.exists(f"{model}/{version}/{CARD}") or not store.exists(claim):
        return False
    return _token(store.read(claim)) == token


def write_configuration(store: Store, contract: ModelContract) -> None:
    """Have a configuration for Triton there. Raises ReleaseError."""
    if not store.exists(path := f"{contract.name}/config.pbtxt"):
        store.replace(path, config_pbtxt(contract).encode())


def publish_release(store: Store, release: Release, *, private_key: Path | None = None, current: bool) -> Release:
    """Write a manifest with the digests of all that it pins, after its signature; let the pointer name it if `current`.

    Returns the release with its digests. Raises ReleaseError where it exists, or pins what is not there or not whole.
    """
    path = manifest_path(release.id)
    if store.exists(path):
        raise ReleaseError(f"release {release.id} exists already; releases never change", field=path)
    release = replace(release, files=_digests(store, release))
    manifest = release_to_json(release).encode()
    release_from_json(manifest.decode(), source=path)  # what nobody could read is not written
    if private_key is not None:
        _write_signature(store, release.id, manifest, private_key)
    try:
        store.create(path, manifest)
    except ReleaseError:
        with suppress(ReleaseError):  # what brought us here is what is told
            if private_key is not None and not store.exists(path):
                store.delete(signature_path(release.id))
        raise
    if current:
        set_current(store, release.id)
    return release


def _write_signature(store: Store, release_id: str, manifest: bytes, private_key: Path) -> None:
    """Sign a manifest; the signature of these very bytes by this key may be there, of a publisher that was killed."""
    path, name = signature_path(release_id), manifest_path(release_id)
    try:
        store.create(path, sign(manifest, name=name, private_key=private_key))
    except ReleaseError as error:
        if error.reason != EXISTS:
            raise
        if not is_signed_with(manifest, store.read(path), name=name, private_key=private_key):
            raise ReleaseError(
                f"another publishes this release, or was stopped in it: then delete {path}", field=path
            ) from None


def _digests(store: Store, release: Release) -> dict[str, str]:
    """SHA-256 of every file that the release pins, as the store has it. Raises ReleaseError."""
    digests: dict[str, str] = {}
    for model, version in release.models.items():
        weights, card = (f"{model}/{version}/{name}" for name in (WEIGHTS, CARD))
        if not store.exists(card):
            raise ReleaseError(f"{model} has no version {version}", field=manifest_path(release.id))
        content = store.read(card)
        digests |= {weights: store.sha256(weights), card: sha256(content).hexdigest()}
        if card_of(content, model, version, place=card)["model_sha256"] != digests[weights]:
            raise ReleaseError("the file is not the one that its card describes: it is damaged", field=weights)
    return digests


@contextmanager
def _claimed(store: Store, folder: str, token: str) -> Iterator[str]:
    """Nobody else ever writes into this folder; where that fails, what was written goes, and the claim last."""
    _take(store, f"{folder}/{CLAIM}", token)
    with _undone(store, f"{folder}/{CLAIM}"):
        _check_new(store, folder)  # what was published before there were claims has none
    with _undone(store, f"{folder}/{CARD}", f"{folder}/{WEIGHTS}", f"{folder}/{CLAIM}"):
        yield folder


@contextmanager
def _undone(store: Store, *paths: str) -> Iterator[None]:
    """These files go where what is done meanwhile fails, unless since another has made one of them."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, ReleaseError) and error.reason == EXISTS:
            raise
        with suppress(ReleaseError):  # what brought us here is what is told
            for path in paths:
                store.delete(path)
        raise


def _check_new(store: Store, folder: str) -> None:
    if store.exists(f"{folder}/{CARD}"):
        raise ReleaseError("is published already; versions never change", field=folder)


def _take(store: Store, claim: str, token: str) -> None:
    """Claim a version. Raises ReleaseError where another has, and says since when."""
    at = datetime.now(UTC).isoformat("T", "seconds")
    mine = json.dumps({"at": at, "by": f"{socket.gethostname()}:{os.getpid()}", "token": token}).encode()
    try:
        store.create(claim, mine)
    except ReleaseError as error:
        if error.reason != EXISTS:
            raise
        folder = claim.rpartition("/")[0]
        _check_new(store, folder)
        held = store.read(claim)
        # An object store may have been asked twice, since its first answer got lost; or this publisher was killed.
        if _token(held) != token:
            reason = f"another publishes this version, or was stopped in it, {text(held, claim)}: then delete {claim}"
            raise ReleaseError(reason, field=folder) from None


def _token(claim: bytes) -> str | None:
    """Whose a claim is; None where that is not to be read."""
    try:
        return str(json.loads(claim)["token"])
    except (ValueError, KeyError, TypeError):
        return None


def text(content: bytes, path: str) -> str:
    """The text of a file. Raises ReleaseError where it is none."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ReleaseError("is not text", field=path) from None
