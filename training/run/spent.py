"""How much processor time a run took, over all its beginnings."""

import logging
from pathlib import Path
from time import process_time
from typing import Final

LOG = logging.getLogger(__name__)
SPENT: Final = "cpu_seconds"


class Spent:
    """Seconds of all cores that a run in `folder` has taken; those since the last `save` are lost with a kill."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SPENT
        self._before = float(self._path.read_text()) if self._path.exists() else 0.0
        self._began = process_time()

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + process_time() - self._began

    def save(self) -> None:
        """Keep it for whoever goes on; where the disk is full the older figure stays."""
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_text(f"{self.seconds:.1f}\n")
            partial.replace(self._path)
        except OSError as error:
            LOG.warning("%s cannot be written: %s", self._path, error)
