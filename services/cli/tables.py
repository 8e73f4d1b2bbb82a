"""Reads the tables that go with radiographs: sizes at acquisition, labels and the parts of a split."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from services.cli.files import InputFile
from services.cli.usage import UsageError, printable
from services.core.domain.contracts import Sex
from services.core.domain.metrics import OLDEST_MONTHS

Value = TypeVar("Value")


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
    """What a reader said of one radiograph; `male` is None where the table does not say."""

    age_months: float
    male: bool | None

    @property
    def sex(self) -> Sex:
        """As requests have it."""
        return "unknown" if self.male is None else "male" if self.male else "female"


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a table's columns; those of the RSNA challenge where nothing else is said. None names no sex."""

    id: str = "id"
    age: str = "boneage"
    sex: str | None = "male"


RSNA: Final = Columns()
TRUTH: Final[dict[str, bool | None]] = {
    "true": True,
    "1": True,
    "m": True,
    "male": True,
    "false": False,
    "0": False,
    "f": False,
    "female": False,
    "": None,
    "u": None,
    "o": None,
    "unknown": None,
}


def read_labels(path: Path, columns: Columns = RSNA) -> dict[str, Label]:
    """Labels by id, from a CSV file with these columns: age in months, and sex as a word, a letter or True (male)."""
    needed = (columns.id, columns.age, *((columns.sex,) if columns.sex else ()))
    return {row[columns.id]: _label(row, columns, path) for row in _rows(path, needed)}


def read_classes(path: Path, column: str, *, id_column: str = RSNA.id) -> dict[str, str]:
    """Names of classes by id, from a CSV file with the columns `id_column` and `column`."""
    return {row[id_column]: row[column].strip() for row in _rows(path, (id_column, column))}


def read_part(path: Path, part: str) -> set[str]:
    """The ids of one part of a split, from a CSV file with the columns id, part."""
    rows = _rows(path, ("id", "part"))
    ids = {row["id"] for row in rows if row["part"] == part}
    if not ids:
        known = ", ".join(sorted({row["part"] for row in rows}))
        raise UsageError(f"{path} has no part {part!r}; it has {known or 'none'}")
    return ids


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV file that has at least `columns`, of which the first is the id."""
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
            raise UsageError(f"{printable(path)}: the row of id {row[columns[0]]!r} is cut short")
    return rows


def _size(row: Mapping[str, str], column: str, path: Path) -> int:
    if row[column].isdecimal() and int(row[column]) > 0:
        return int(row[column])
    raise UsageError(f"{printable(path)}: {column} of id {row['id']!r} is {row[column]!r}, not a number of pixels")


def _label(row: Mapping[str, str], columns: Columns, path: Path) -> Label:
    word, age = row[columns.sex].strip().lower() if columns.sex else "", row[columns.age]
    where = f"{printable(path)}: {{}} of id {row[columns.id]!r} is"
    if word not in TRUTH:
        raise UsageError(f"{where.format(columns.sex)} {word!r}, neither True nor False, male nor female, nor empty")
    try:
        age_months = float(age)
    except ValueError:
        raise UsageError(f"{where.format(columns.age)} {age!r}, not months") from None
    if not 0 <= age_months <= OLDEST_MONTHS:
        raise UsageError(f"{where.format(columns.age)} {age_months}, not between 0 and {OLDEST_MONTHS}")
    return Label(age_months, TRUTH[word])
