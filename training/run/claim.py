"""Lets several processes work on one folder of runs: each takes what no other has begun."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOG = logging.getLogger(__name__)
CLAIMED: Final = "claimed"


@contextmanager
def claimed(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process has the folder to itself inside the block; with `wait` it has, once the others are done.

    A process that died claims nothing any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CLAIMED).open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            LOG.info("another process works in %s; waiting for it", folder)
            fcntl.flock(mark, fcntl.LOCK_EX)
        yield True
