"""TensorBoard's scalars, in its own format.

Written here because the writers that there are wait for ever where the disk is full.
"""

import socket
import struct
import time
from pathlib import Path
from typing import Final

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from training.run.room import Growing

VERSION: Final = "brain.Event:2"


class Scalars:
    """An event file in `folder`, where TensorBoard looks for it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = Growing(folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}")
        self._write(Event(file_version=VERSION))

    def add(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def forget_from(self, step: int) -> None:
        """Hide all points of `step` and later ones, also those in older files of the folder."""
        self._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        self._file.add(length + sums[0] + content + sums[1])

    def close(self) -> None:
        """Leave the file."""
        self._file.close()
