"""What the gates look at in disturbed radiographs, for releases whose networks have learnt to read these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.core.domain.upright import TYPICALITY
from training.data.radiographs import Radiograph, report_missing
from training.data.rows import Column, Rows
from training.evaluation.gating import BEFORE_READING, Disturbance, Figures, Image, Preparing, Sample, Values, fill
from training.evaluation.measure import OnnxModel
from training.evaluation.typicality import NAMES
from training.run.advance import Advance
from training.run.exits import BadConfigurationError

CHANGED: Final[dict[Disturbance, str]] = {"tilted": "tilted", "badly_stored": "badly stored"}
"""Which of CHANGES makes them."""
COLUMNS: Final[dict[str, Column]] = {
    TYPICALITY: ((len(NAMES),), "float32"), **dict.fromkeys(BEFORE_READING, ((), "float32")), "hand": ((), "bool"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disturbed(Sample):
    """Some radiographs that no network learnt from, at most `count`, as many of each of `kinds`."""

    kinds: Sequence[Disturbance]

    @property
    def chosen(self) -> list[Radiograph]:
        """Those that are drawn."""
        return [self.radiographs[index] for index in self.order[: self.count]]

    def figures(
        self, prepare: Preparing, reader: OnnxModel, *, said_by: str, advance: Advance
    ) -> dict[Disturbance, Figures]:
        """TYPICALITY (N, m) and BEFORE_READING (N,) of each of `kinds`, of those in which there is a hand.

        `said_by` tells the reader and the files of the radiographs. Those that cannot be read are left out, named and
        counted. Raises BadConfigurationError where a kind has none, StoreUnwritableError where there is no room.
        """
        chosen, maker = self.chosen, f"{said_by} {self.made_by} {' '.join(self.kinds)}"
        rows = Rows.make(self.folder, [r.id for r in chosen], COLUMNS, made_by=maker, anew=True)

        def values(frames: Sequence[Image]) -> Values:
            hands, figures = prepare(frames)
            return {TYPICALITY: reader(hands)[TYPICALITY], "hand": np.asarray(hands.any(axis=(1, 2))), **figures}

        of_kind = np.arange(len(chosen)) % len(self.kinds)
        changes = [
            (r, CHANGED[self.kinds[int(kind)]], (self.seed, place))
            for place, (r, kind) in enumerate(zip(chosen, of_kind, strict=True))
        ]
        fill(rows, changes, values, advance)
        unread = [chosen[row].id for row in rows.missing]
        report_missing("could not be read, and the gates heed the others alone", unread, of=len(chosen))
        there = rows.done & np.asarray(rows.columns["hand"])
        read = {kind: there & (of_kind == place) for place, kind in enumerate(self.kinds)}
        if empty := [CHANGED[kind] for kind, which in read.items() if not which.any()]:
            raise BadConfigurationError(f"disturbed_share: no radiograph is left that is {' or '.join(empty)}")
        names = TYPICALITY, *BEFORE_READING
        return {kind: {name: np.array(rows.columns[name][which]) for name in names} for kind, which in read.items()}
