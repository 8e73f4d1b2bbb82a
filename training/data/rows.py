"""Keeps what a job makes of each image on disk, row by row: a killed job goes on with the rows that are missing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.run.claim import claimed
from training.run.exits import BadConfigurationError, StoreUnwritableError
from training.run.room import take_room, whole

Column: TypeAlias = tuple[tuple[int, ...], str]
"""Shape of a row and name of the numpy type."""
ORIGIN: Final[Column] = ((), "uint64")
"""Of the column ORIGIN_COLUMN: what a row was made of (`Radiograph.origin`)."""
ORIGIN_COLUMN: Final = "origin"
DESCRIPTION: Final = "rows.json"
CODE: Final = "code"
NAMES: Final = {"made_by": "models or settings", CODE: "code", "columns": "columns", "ids": "images"}
"""What a person calls that which a folder's description holds."""


def as_bytes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image in [0, 1] as it is kept: 256 grey levels."""
    return np.rint(image * np.float32(255)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of one folder as arrays (N, ...) mapped from disk, so that memory holds only what is looked at.

    `made_by` says what the values depend on beside the images, and `code`, where there is one, by which code: another
    is not gone on with, but what it made may be the same, so that digests do not tell them apart.
    """

    folder: Path
    ids: tuple[str, ...]
    done: NDArray[np.bool_]
    columns: Mapping[str, "np.memmap[Any, np.dtype[Any]]"]
    made_by: str
    code: str = ""

    @classmethod
    def make(
        cls,
        folder: Path,
        ids: Sequence[str],
        columns: Mapping[str, Column],
        *,
        made_by: str,
        code: str = "",
        anew: bool = False,
    ) -> "Rows":
        """Open the rows of these images, or begin them.

        Where the folder holds rows of other images, or rows that something else made, they make room for new ones if
        `anew`, and else raise BadConfigurationError. Raises StoreUnwritableError, with nothing left behind, where there
        is no room for all of them. Of several processes one begins them, and the others open what it began.
        """
        description = {"made_by": made_by, "columns": {name: list(c) for name, c in columns.items()}, "ids": list(ids)}
        description |= {CODE: code} if code else {}
        described = json.loads(json.dumps(description))
        with claimed(folder, wait=True):
            return cls._make(folder, described, columns, anew=anew)

    @classmethod
    def _make(cls, folder: Path, described: dict[str, Any], columns: Mapping[str, Column], *, anew: bool) -> "Rows":
        count = len(described["ids"])
        if (folder / DESCRIPTION).exists():
            found = _described(folder)
            before = {CODE: described.get(CODE)} | found  # older rows do not say it
            differing = [NAMES[key] for key in described if described[key] != before.get(key)]
            if not differing:
                return cls.read(folder, write=True)
            if not anew:
                raise BadConfigurationError(
                    f"{folder} was made with other {' and '.join(differing)}; delete it or name another folder"
                )
            (folder / DESCRIPTION).unlink()
        sizes = {
            folder / f"{name}.bin": int(np.prod((count, *shape), dtype=np.int64)) * np.dtype(kind).itemsize
            for name, (shape, kind) in (*columns.items(), ("done", ((), "bool")))
        }
        try:
            for path, size in sizes.items():
                take_room(path, size)
            with whole(folder / DESCRIPTION) as file:
                file.write(json.dumps(described).encode())
        except StoreUnwritableError:
            for path in sizes:
                path.unlink(missing_ok=True)
            raise
        return cls.read(folder, write=True)

    @classmethod
    def read(cls, folder: Path, *, write: bool = False) -> "Rows":
        """Open what is there. Raises BadConfigurationError where there is nothing."""
        found = _described(folder)
        count, mode = len(found["ids"]), "r+" if write else "r"

        def mapped(name: str, shape: Sequence[int], kind: str) -> "np.memmap[Any, np.dtype[Any]]":
            return np.memmap(folder / f"{name}.bin", np.dtype(kind), mode, shape=(count, *shape))  # type: ignore[call-overload]

        columns = {name: mapped(name, shape, kind) for name, (shape, kind) in found["columns"].items()}
        return cls(
            folder, tuple(found["ids"]), mapped("done", (), "bool"), columns, found["made_by"], found.get(CODE, "")
        )

    @property
    def missing(self) -> NDArray[np.intp]:
        """Indices of the rows that are not there yet."""
        return np.flatnonzero(~self.done)

    def write(self, rows: NDArray[np.intp], **values: NDArray[Any]) -> None:
        """Fill rows; they lie on disk, whole, before they are marked as done, also where the machine stops."""
        if values.keys() != self.columns.keys():
            raise ValueError(f"rows have the columns {sorted(self.columns)}, not {sorted(values)}")
        for name, value in values.items():
            self.columns[name][rows] = value
            self.columns[name].flush()
        self.done[rows] = True

    def forget_all_but(self, origins: Sequence[int]) -> None:
        """Have those rows made again whose ORIGIN_COLUMN is not what it is now: another file, or another shape."""
        self.done[self.columns[ORIGIN_COLUMN] != np.array(origins, np.uint64)] = False

    def digest(self, ids: Sequence[str]) -> str:
        """SHA-256 of what the rows of these images were made of and by, and of which are there."""
        rows = self.find(ids)
        there = rows[rows >= 0]
        origins = self.columns[ORIGIN_COLUMN][there].tolist() if ORIGIN_COLUMN in self.columns else []
        told = [self.made_by, list(ids), (rows >= 0).tolist(), origins]
        return sha256(json.dumps(told).encode()).hexdigest()

    def find(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Index of each id, -1 where it has no row that is done."""
        places = {id_: index for index, id_ in enumerate(self.ids)}
        found = np.array([places.get(id_, -1) for id_ in ids], np.intp)
        found[(found >= 0) & ~self.done[found]] = -1
        return found


def _described(folder: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadConfigurationError(f"{folder} holds no prepared images: {error}") from error
    return description
