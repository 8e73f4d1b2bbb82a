"""Reads labelled radiographs from a folder and a table, whatever the bone and whatever the label.

The defaults are the layout of the RSNA 2017 Pediatric Bone Age Challenge (Halabi SS et al., "The RSNA Pediatric Bone
Age Machine Learning Challenge", Radiology 2018;290(2):498-503).
"""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.adapters.imaging import Limits, decode_dicom, decode_encoded
from services.core.domain.contracts import SEX_ORDER, Sex
from services.core.domain.preprocess import to_frame
from training.data.split import SPLIT_CSV, Part, read_split
from training.data.tables import read_table
from training.run.exits import BadConfigurationError

LOG = logging.getLogger(__name__)
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".dcm")
LIMITS: Final = Limits(maximum_bytes=256 * 2**20, maximum_pixels=100_000_000)
NAMED: Final = 500
ENDS_BYTES: Final = 64 * 1024
SEX_WORDS: Final[dict[str, Sex]] = {
    "true": "male", "m": "male", "male": "male",
    "false": "female", "f": "female", "female": "female",
    "": "unknown", "u": "unknown", "o": "unknown", "unknown": "unknown",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One labelled radiograph. `true_shape` is its height and width at acquisition, None where it is stored so."""

    id: str
    path: Path
    label: str
    sex: Sex
    part: Part
    true_shape: tuple[int, int] | None

    @property
    def origin(self) -> int:
        """What tells whether what was made of it is of this file and shape: 64 bits of a digest of both.

        Of a file its size, its beginning, which says what a DICOM file is, and its end count; of one that may not be
        read, which whoever reads its frame will name, its size alone; 0 of one that is not there any more.
        """
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return 0
        told = sha256(f"{self.path.suffix.lower()} {size} {self.true_shape}".encode())
        with suppress(OSError), self.path.open("rb") as file:
            told.update(file.read(ENDS_BYTES))
            file.seek(max(0, size - ENDS_BYTES))
            told.update(file.read(ENDS_BYTES))
        return int.from_bytes(told.digest()[:8], "big")

    def frame(self) -> NDArray[np.float32]:
        """The frame (H, W) float32 in [0, 1] that serving would make of it. Raises InvalidRadiographError."""
        return read_frame(self.path, self.true_shape)


def read_pixels(path: Path) -> NDArray[np.float32]:
    """The pixels (H, W) float32 in [0, 1] of a DICOM, PNG or JPEG file. Raises InvalidRadiographError."""
    decode = decode_dicom if path.suffix.lower() == ".dcm" else decode_encoded
    return decode(path.read_bytes(), limits=LIMITS).pixels


def read_frame(path: Path, true_shape: tuple[int, int] | None) -> NDArray[np.float32]:
    """The frame (H, W) float32 in [0, 1] that serving would make of a file. Raises InvalidRadiographError."""
    return to_frame(read_pixels(path), true_shape=true_shape)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Where labelled radiographs are, as a configuration says it.

    `images` holds a file `ID.png`, `.jpg` or `.dcm` for each row of `labels`, a CSV file with the columns named here.
    The label is a number of months or the name of a class; the sex is male, female or nothing (also M and F, True and
    False), and `sex_column: null` where there is none. `sizes` (id, height, width) restores a squashed aspect. `split`
    (id, part) is what `training.jobs.split` writes.
    """

    images: Path
    labels: Path
    sizes: Path | None = None
    split: Path = SPLIT_CSV
    id_column: str = "id"
    label_column: str = "boneage"
    sex_column: str | None = "male"

    def read(self) -> list[Radiograph]:
        """All radiographs with a label, a file and a part, in order of id; what is left out is counted and named.

        Raises BadConfigurationError where a file, a column or a value cannot be used.
        """
        files = image_files(self.images)
        parts = read_split(self.split)
        rows = self.rows()
        report_missing("have a label and no file", [id_ for id_ in rows if id_ not in files], of=len(rows))
        report_missing("have a label and no part", [id_ for id_ in rows if id_ not in parts], of=len(rows))
        report_missing("have a file and no label", [id_ for id_ in files if id_ not in rows], of=len(files))
        sizes = self.true_shapes()
        kept = sorted((id_ for id_ in rows if id_ in files and id_ in parts), key=natural)
        if not kept:
            raise BadConfigurationError(f"{self.labels}: no row has both a file in {self.images} and a part")
        if self.sizes is not None:
            unsized = [id_ for id_ in kept if id_ not in sizes]
            report_missing(f"are not in {self.sizes} and taken as they are stored", unsized, of=len(kept))
        return [Radiograph(id_, files[id_], *rows[id_], parts[id_], sizes.get(id_)) for id_ in kept]

    def rows(self) -> dict[str, tuple[str, Sex]]:
        """Label and sex by id."""
        columns = [self.id_column, self.label_column, *([self.sex_column] if self.sex_column else [])]
        result: dict[str, tuple[str, Sex]] = {}
        for line, row in enumerate(read_table(self.labels, columns, key=self.id_column), 2):
            id_, word = row[self.id_column], row[self.sex_column].strip().lower() if self.sex_column else ""
            if word not in SEX_WORDS:
                known = ", ".join(sorted(filter(None, SEX_WORDS)))
                raise BadConfigurationError(f"{self.labels}: line {line}: sex {word!r} is none of {known}")
            result[id_] = row[self.label_column].strip(), SEX_WORDS[word]
        return result

    def true_shapes(self) -> dict[str, tuple[int, int]]:
        """Height and width at acquisition of those radiographs that have a row in `sizes`."""
        if self.sizes is None:
            return {}
        rows = read_table(self.sizes, ["id", "height", "width"], key="id")
        try:
            return {row["id"]: (int(row["height"]), int(row["width"])) for row in rows}
        except ValueError as error:
            raise BadConfigurationError(f"{self.sizes}: {error}") from error


def image_files(folder: Path) -> dict[str, Path]:
    """Files of radiographs in a folder by name without suffix. Raises BadConfigurationError where two share one."""
    if not folder.is_dir():
        raise BadConfigurationError(f"{folder}: no such folder of images")
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if twice := [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]:
        raise BadConfigurationError(f"{folder}: {len(twice)} names with several suffixes, {_some(twice)}")
    return {path.stem: path for path in files}


def report_missing(what: str, ids: Sequence[str], *, of: int) -> None:
    """Say how many radiographs are left out and name some; silence only where there are none."""
    if ids:
        LOG.warning("%d of %d radiographs %s: %s", len(ids), of, what, _some(ids))


def natural(id_: str) -> tuple[int, int, str]:
    """Key that orders numbers as numbers, before names."""
    return (0, int(id_), "") if id_.isdecimal() else (1, 0, id_)


def sex_columns(radiographs: Sequence[Radiograph]) -> NDArray[np.int64]:
    """Column of `SEX_ORDER` of each radiograph (N,)."""
    return np.array([SEX_ORDER.index(radiograph.sex) for radiograph in radiographs], np.int64)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
