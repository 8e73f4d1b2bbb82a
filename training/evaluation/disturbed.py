"""What the gates look at in disturbed radiographs, for releases whose networks have learnt to read these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.core.domain.upright import TYPICALITY
from training.data.radiographs import Radiograph, report_missing
from training.data.rows import Column, Rows
from training.evaluation.gating import BEFORE_READING, Figures, Image, Preparing, Sample, Values, fill
from training.evaluation.measure import OnnxModel
from training.evaluation.typicality import NAMES
from training.run.advance import Advance
from training.run.exits import BadConfigurationError

KINDS: Final = ("tilted", "badly stored")
COLUMNS: Final[dict[str, Column]] = {
    TYPICALITY: ((len(NAMES),), "float32"), **dict.fromkeys(BEFORE_READING, ((), "float32")), "hand": ((), "bool"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disturbed(Sample):
    """Some radiographs that no network learnt from, at most `count`: half of them tilted, half badly stored."""

    @property
    def chosen(self) -> list[Radiograph]:
        """Those that are drawn."""
        return [self.radiographs[index] for index in self.order[: self.count]]

    def figures(self, prepare: Preparing, reader: OnnxModel, *, said_by: str, advance: Advance) -> list[Figures]:
        """TYPICALITY (N, m) and BEFORE_READING (N,) of each of KINDS, of those in which there is a hand.

        `said_by` tells the reader and the files of the radiographs. Those that cannot be read are left out, named and
        counted. Raises BadConfigurationError where a kind has none, StoreUnwritableError where there is no room.
        """
        chosen, maker = self.chosen, f"{said_by} {self.made_by}"
        rows = Rows.make(self.folder, [r.id for r in chosen], COLUMNS, made_by=maker, anew=True)

        def values(frames: Sequence[Image]) -> Values:
            hands, figures = prepare(frames)
            return {TYPICALITY: reader(hands)[TYPICALITY], "hand": np.asarray(hands.any(axis=(1, 2))), **figures}

        kinds = np.arange(len(chosen)) % len(KINDS)
        changes = [
            (r, KINDS[kind], (self.seed, place)) for place, (r, kind) in enumerate(zip(chosen, kinds, strict=True))
        ]
        fill(rows, changes, values, advance)
        unread = [chosen[row].id for row in rows.missing]
        report_missing("could not be read, and the gates heed the others alone", unread, of=len(chosen))
        read = [rows.done & np.asarray(rows.columns["hand"]) & (kinds == kind) for kind in range(len(KINDS))]
        if empty := [name for name, which in zip(KINDS, read, strict=True) if not which.any()]:
            raise BadConfigurationError(f"disturbed_share: no radiograph is left that is {' or '.join(empty)}")
        return [{name: np.array(rows.columns[name][which]) for name in (TYPICALITY, *BEFORE_READING)} for which in read]
