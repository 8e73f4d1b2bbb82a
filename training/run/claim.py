"""Lets several processes work on one folder of runs, each on what no other has begun, and one alone on a run."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

from training.run.exits import FailedError, StoreUnwritableError

LOG = logging.getLogger(__name__)
CLAIMED: Final = "claimed"
RUNNING: Final = "running"
TRIES: Final = 100


@contextmanager
def claimed(folder: Path, *, wait: bool = False, name: str = CLAIMED) -> Iterator[bool]:
    """Whether this process has the folder to itself inside the block; with `wait` it has, once the others are done.

    A process that died claims nothing any more. Claims of different names are different ones. Raises
    StoreUnwritableError where the folder cannot be made or written to.
    """
    while True:
        with _opened(folder / name) as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                LOG.info("another process works in %s; waiting for it", folder)
                fcntl.flock(mark, fcntl.LOCK_EX)
            if _is_there(mark, folder / name):
                yield True
                return


@contextmanager
def alone(out: Path, *, wait: bool = True) -> Iterator[None]:
    """No other process runs a job in `out` inside the block: one that is started there too waits, then goes on.

    Two would else write the same checkpoint at once. A folder that nothing was written to is removed. Raises
    FailedError where another is at work and this one is not to `wait`, StoreUnwritableError as `claimed` does.
    """
    with claimed(out, wait=wait, name=RUNNING) as ours:
        if not ours:
            raise FailedError(f"another process works in {out}")
        try:
            yield
        finally:
            with suppress(OSError):
                if [path.name for path in out.iterdir()] == [RUNNING]:
                    (out / RUNNING).unlink()
                    out.rmdir()


def _opened(path: Path) -> TextIO:
    for _ in range(TRIES):  # whoever had the folder before may remove it as soon as it is there
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("w")
        except OSError as error:
            failed = error
            if not isinstance(error, FileNotFoundError | FileExistsError):
                break
    raise StoreUnwritableError(f"{path.parent} cannot be written: {failed}") from failed


def _is_there(mark: TextIO, path: Path) -> bool:
    """Whether the file is still what others find at the path: whoever had it before may have removed it."""
    try:
        return os.path.samestat(os.fstat(mark.fileno()), path.stat())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
