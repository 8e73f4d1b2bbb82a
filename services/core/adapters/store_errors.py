"""What can go wrong with files, here or in a store, as one ReleaseError: the place, and a reason in plain words.

A backend's own text may hold addresses, credentials and the paths of a machine; none of it is passed on.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from services.core.errors import BoneageError, ReleaseError, StoreUnavailableError

NOT_FOUND: Final = "not found"
EXISTS: Final = "exists already"
SILENT: Final = "the store does not answer"
REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (FileNotFoundError, NOT_FOUND),
    (NotADirectoryError, NOT_FOUND),
    (FileExistsError, EXISTS),
    (PermissionError, "permission denied"),
    (IsADirectoryError, "is a folder"),
    (TimeoutError, SILENT),
    (ConnectionError, SILENT),
)
TAKEN: Final = (409, 412)
"""HTTP statuses of an exclusive write that came second: it is there already, or another is writing it just now."""


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn whatever is raised into a ReleaseError at `place`, or StoreUnavailableError; errors of ours pass."""
    try:
        yield
    except BoneageError:
        raise
    except Exception as error:  # noqa: BLE001 -- every backend has a tree of its own
        reason = _reason(error)
        kind = StoreUnavailableError if reason.startswith(SILENT) else ReleaseError
        raise kind(reason, field=place) from None


def _reason(error: Exception) -> str:
    answer = getattr(error.__cause__, "response", None) or {}  # not every S3 server says which condition failed
    if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in TAKEN:
        return EXISTS
    for kind, reason in REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return f"{SILENT} ({type(error).__name__})"
