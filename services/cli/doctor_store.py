"""Whether the store can be read, and where it must be, written as publishing and the release service write it."""

import secrets
from collections.abc import Iterator
from typing import Final

from services.cli.environment import Finding
from services.core.adapters.publishing import read_current
from services.core.adapters.store import Store
from services.core.adapters.store_errors import EXISTS, NOT_FOUND
from services.core.errors import BoneageError, ReleaseError, StoreUnavailableError

REACH: Final = "look whether the store's address is right, and whether a NetworkPolicy lets this pod reach it"
FIXES: Final = {
    NOT_FOUND: "make the folder or bucket that BONEAGE_STORE names, or correct it",
    "read-only file system": "mount it so that it can be written",
    "permission denied": "give these credentials, or this user, the right to {} there",
}
"""By what is wrong; the right that is missing is filled in."""


def check_store(url: str, *, writable: bool) -> Iterator[Finding]:
    """That it is there, and either names a release or is empty; if `writable`, that files come and go exclusively."""
    if not url:
        yield Finding("store", "BONEAGE_STORE is not set", "set it to a folder, or to s3://BUCKET/PREFIX")
        return
    done, right = "read", "read and list"
    try:
        store = Store(url)
        store.check()
        current = read_current(store)
        yield Finding("store", f"can be read, and names {current}" if current else "can be read, and names nothing yet")
        done, right = "written", "write, read and delete"
        if writable:
            yield _written(store)
    except BoneageError as error:
        yield Finding("store", f"cannot be {done}: {error.reason}", _fix(error, right))


def _written(store: Store) -> Finding:
    """Write a file of our own, not twice, and delete it."""
    probe = f"doctor-{secrets.token_hex(8)}"
    try:
        store.create(probe, b"of boneage doctor; it may be deleted")
        try:
            store.create(probe, b"a second one")
        except ReleaseError as error:
            if error.reason != EXISTS:
                raise
        else:
            return Finding(
                "store",
                "what is there can be written over: it does not honour If-None-Match",
                "take an S3 server that honours `If-None-Match: *`, or two publishers may destroy each other's work",
            )
    finally:
        store.delete(probe)
    return Finding("store", "can be written, and nothing is written over")


def _fix(error: BoneageError, right: str) -> str:
    if isinstance(error, StoreUnavailableError):
        return REACH
    return FIXES.get(error.reason, "see docs/operations.md for what a store has to be").format(right)
