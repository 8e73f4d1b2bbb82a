"""Frames of many radiographs, decoded once and kept on disk; those that cannot be read are named and left out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain.preprocess import FRAME_PX
from services.core.errors import InvalidRadiographError
from training.data.radiographs import Radiograph, report_missing
from training.data.rows import ORIGIN, ORIGIN_COLUMN, Column, Rows
from training.run.advance import advancing

LOG = logging.getLogger(__name__)
COLUMNS: Final[dict[str, Column]] = {
    "pixels": ((FRAME_PX, FRAME_PX), "uint8"),
    "shape": ((2,), "int32"),
    ORIGIN_COLUMN: ORIGIN,
}


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames by id, mapped from disk."""

    kept: Rows
    places: dict[str, int]

    @classmethod
    def keep(cls, radiographs: Sequence[Radiograph], folder: Path) -> "Frames":
        """Decode what is not in `folder` yet."""
        kept = Rows.make(folder, [r.id for r in radiographs], COLUMNS, made_by=f"frames of {FRAME_PX} px")
        kept.forget_all_but([r.origin for r in radiographs])
        failed, missing = [], kept.missing
        if not len(missing):
            return cls(kept, {id_: row for row, id_ in enumerate(kept.ids)})
        with advancing(folder, title="frames", total=len(radiographs)) as advance:
            advance.kept(len(radiographs) - len(missing))
            for row in missing:
                try:
                    frame = radiographs[row].frame()
                except (InvalidRadiographError, OSError) as error:
                    LOG.warning("%s: %s", radiographs[row].id, error)
                    failed.append(radiographs[row].id)
                    continue
                pixels = np.zeros((1, FRAME_PX, FRAME_PX), np.uint8)
                pixels[0, : frame.shape[0], : frame.shape[1]] = np.rint(frame * 255)
                kept.write(np.array([row]), pixels=pixels, shape=np.array([frame.shape], np.int32),
                           origin=np.array([radiographs[row].origin], np.uint64))  # fmt: skip
                advance(1, doing="reading")
        report_missing("cannot be read", failed, of=len(radiographs))
        return cls(kept, {id_: row for row, id_ in enumerate(kept.ids) if kept.done[row]})

    def __contains__(self, id_: str) -> bool:
        return id_ in self.places

    def frame(self, id_: str) -> NDArray[np.float32]:
        """A frame (H, W) in [0, 1]."""
        row = self.places[id_]
        height, width = self.kept.columns["shape"][row]
        pixels: NDArray[np.float32] = self.kept.columns["pixels"][row, :height, :width].astype(np.float32)
        return pixels / np.float32(255)
