"""Reads the tables that go with radiographs: sizes at acquisition, labels and the parts of a split."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from services.cli.files import InputFile
from services.cli.usage import UsageError, printable

Value = TypeVar("Value")

MAXIMUM_AGE_MONTHS: Final = 300


def lookup(table: Mapping[str, Value], file: InputFile) -> Value | None:
    """The row of `file` by its id, or else by the last part of its id."""
    return table.get(file.id, table.get(file.id.rsplit("/", 1)[-1]))


def read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Height and width in pixels at acquisition by id, from a CSV file with the columns id, height, width."""
    return {
        row["id"]: (_size(row, "height", path), _size(row, "width", path))
        for row in _rows(path, ("id", "height", "width"))
    }


@dataclass(frozen=True, slots=True)
class Label:
    """What a reader said of one radiograph."""

    age_months: float
    male: bool


TRUTH: Final = {
    "true": True,
    "1": True,
    "m": True,
    "male": True,
    "false": False,
    "0": False,
    "f": False,
    "female": False,
}


def read_labels(path: Path) -> dict[str, Label]:
    """Labels by id, from a CSV file in the RSNA challenge's layout: id, boneage (months), male (True or False)."""
    return {row["id"]: _label(row, path) for row in _rows(path, ("id", "boneage", "male"))}


def read_classes(path: Path, column: str) -> dict[str, str]:
    """Names of classes by id, from a CSV file with the columns id and `column`."""
    return {row["id"]: row[column].strip() for row in _rows(path, ("id", column))}


def read_part(path: Path, part: str) -> set[str]:
    """The ids of one part of a split, from a CSV file with the columns id, part."""
    rows = _rows(path, ("id", "part"))
    ids = {row["id"] for row in rows if row["part"] == part}
    if not ids:
        known = ", ".join(sorted({row["part"] for row in rows}))
        raise UsageError(f"{path} has no part {part!r}; it has {known or 'none'}")
    return ids


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV file that has at least `columns`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise UsageError(f"{printable(path)} lacks the column {missing[0]!r}; it needs {', '.join(columns)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{printable(path)} cannot be read: {error}") from None
    for row in rows:
        if any(row[name] is None for name in columns):
            raise UsageError(f"{printable(path)}: the row of id {row['id']!r} is cut short")
    return rows


def _size(row: Mapping[str, str], column: str, path: Path) -> int:
    if row[column].isdecimal() and int(row[column]) > 0:
        return int(row[column])
    raise UsageError(f"{printable(path)}: {column} of id {row['id']!r} is {row[column]!r}, not a number of pixels")


def _label(row: Mapping[str, str], path: Path) -> Label:
    male = TRUTH.get(row["male"].strip().lower())
    if male is None:
        raise UsageError(f"{printable(path)}: male of id {row['id']!r} is {row['male']!r}, neither True nor False")
    try:
        age_months = float(row["boneage"])
    except ValueError:
        raise UsageError(f"{printable(path)}: boneage of id {row['id']!r} is {row['boneage']!r}, not months") from None
    if not 0 <= age_months <= MAXIMUM_AGE_MONTHS:
        raise UsageError(
            f"{printable(path)}: boneage of id {row['id']!r} is {age_months}, not between 0 and {MAXIMUM_AGE_MONTHS}"
        )
    return Label(age_months, male)
