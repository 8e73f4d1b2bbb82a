"""What the gates look at in disturbed radiographs: these should be read, so limits heed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from services.core.domain.upright import TYPICALITY
from training.data.radiographs import Radiograph, report_missing
from training.data.rows import Column, Rows
from training.evaluation.gating import BEFORE_READING, CHUNK, Figures, Preparing, changed
from training.evaluation.measure import OnnxModel
from training.evaluation.typicality import NAMES
from training.run.advance import Advance

KINDS: Final = ("tilted", "badly stored")
COLUMNS: Final[dict[str, Column]] = {
    TYPICALITY: ((len(NAMES),), "float32"), **dict.fromkeys(BEFORE_READING, ((), "float32")), "hand": ((), "bool"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disturbed:
    """Some of the radiographs that nothing was fitted on, at most `count`: half of them tilted, half badly stored.

    Figures are kept in `folder`, of which `made_by` says what they depend on beside the radiographs and the reader;
    those of anything else are made anew.
    """

    radiographs: Sequence[Radiograph]
    count: int
    seed: int
    folder: Path
    made_by: str

    @property
    def chosen(self) -> list[Radiograph]:
        """Those that are drawn."""
        order = np.random.default_rng(self.seed).permutation(len(self.radiographs))
        return [self.radiographs[index] for index in order[: self.count]]

    def figures(self, prepare: Preparing, reader: OnnxModel, *, said_by: str, advance: Advance) -> Figures:
        """TYPICALITY (N, m) and BEFORE_READING (N,) of those in which there is a hand.

        Radiographs that cannot be read are left out, named and counted. Raises StoreUnwritableError where there is no
        room.
        """
        chosen, maker = self.chosen, f"{said_by} {self.made_by}"
        rows = Rows.make(self.folder, [r.id for r in chosen], COLUMNS, made_by=maker, anew=True)
        for start in range(0, len(chosen), CHUNK):
            places = np.arange(start, min(start + CHUNK, len(chosen)))
            if rows.done[places].all():
                advance.kept(len(places))
                continue
            frames = {place: changed(chosen[place], KINDS[place % 2], (self.seed, int(place))) for place in places}
            there = np.array([place for place, frame in frames.items() if frame is not None], np.intp)
            if len(there):
                hands, figures = prepare([frame for frame in frames.values() if frame is not None])
                figures = {TYPICALITY: reader(hands)[TYPICALITY], **figures}
                rows.write(there, hand=np.asarray(hands.any(axis=(1, 2))), **figures)
            advance(len(places), doing="disturbed")
        unread = [chosen[row].id for row in rows.missing]
        report_missing("could not be read, and the gates heed the others alone", unread, of=len(chosen))
        read = rows.done & np.asarray(rows.columns["hand"])
        return {name: np.array(rows.columns[name][read]) for name in (TYPICALITY, *BEFORE_READING)}
