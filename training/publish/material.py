"""The radiographs that a release is measured, calibrated and gated on, as `training.jobs.hands` prepared them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.radiographs import Radiograph, report_missing, sex_columns
from training.data.rows import Rows
from training.enhancement.hands import masking_sha256
from training.evaluation.calibration import MINIMUM_IMAGES
from training.run.exits import BadConfigurationError
from training.transfer.target import Target

MEASURED: Final = ("validation", "calibration", "test")
BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Material:
    """Prepared hands of the parts that measure, with their labels, in one order."""

    parts: NDArray[np.str_]
    labels: NDArray[np.float32]
    sexes: NDArray[np.int64]
    rows: NDArray[np.intp]
    prepared: Rows

    @classmethod
    def read(cls, hands: Path, maker: str, radiographs: Sequence[Radiograph], target: Target) -> Self:
        """Those of `radiographs` that `maker` prepared. Raises BadConfigurationError where they will not do."""
        prepared = Rows.read(hands)
        if prepared.made_by != maker:
            raise BadConfigurationError(
                f"{hands}: the hands were not prepared by the models of this release, at its maximum_structure_change"
            )
        if prepared.code not in ("", masking_sha256()):
            raise BadConfigurationError(
                f"{hands}: the hands were prepared by other code than there is now: prepare them in another folder"
            )
        measuring = [r for r in radiographs if r.part in MEASURED]
        rows = prepared.find([r.id for r in measuring])
        absent = [r.id for r, row in zip(measuring, rows, strict=True) if row < 0]
        report_missing(f"are not in {hands}", absent, of=len(measuring))
        there = [r for r, row in zip(measuring, rows, strict=True) if row >= 0]
        if empty := [part for part in MEASURED if part not in {r.part for r in there}]:
            raise BadConfigurationError(f"{hands} holds no radiograph of {', '.join(empty)}")
        if (count := sum(r.part == "calibration" for r in there)) < MINIMUM_IMAGES:
            raise BadConfigurationError(
                f"{count} radiographs of the calibration part are too few; {MINIMUM_IMAGES} are needed"
            )
        try:
            labels = np.array([target.number(r.label) for r in there], np.float32)
        except ValueError as error:
            raise BadConfigurationError(f"labels: {error}") from error
        return cls(np.array([r.part for r in there]), labels, sex_columns(there), rows[rows >= 0], prepared)

    def of(self, *parts: str) -> NDArray[np.bool_]:
        """Which radiographs (N,) are in these parts."""
        return np.isin(self.parts, parts)

    @property
    def ids(self) -> list[str]:
        """Names of the radiographs (N)."""
        return [self.prepared.ids[row] for row in self.rows]

    def hands(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
        """Prepared hands in [0, 1], at most BATCH at a time, (n, S, S)."""
        rows = self.rows[chosen]
        for start in range(0, len(rows), BATCH):
            hands = self.prepared.columns["enhanced"][rows[start : start + BATCH]]
            yield np.asarray(hands, np.float32) / np.float32(255)

    def digest(self) -> str:
        """SHA-256 of what made the hands, and of the hands themselves."""
        found = sha256(self.prepared.made_by.encode())
        for row in self.rows:
            found.update(self.prepared.columns["enhanced"][row].tobytes())
        return found.hexdigest()

    def examples(self, side_px: int) -> NDArray[np.float32]:
        """A few hands of the validation part (n, 1, side_px, side_px), to compare a model's outputs on."""
        hands = next(self.hands(self.of("validation")))
        return np.stack([cv2.resize(hand, (side_px, side_px))[None] for hand in hands])

    def numbers(self, column: str, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """One number (n,) of each."""
        return np.asarray(self.prepared.columns[column][self.rows[chosen]], np.float32)
