"""Reads CSV files, and says which file, line and column cannot be used."""

import csv
from collections.abc import Sequence
from pathlib import Path

from training.run.exits import BadConfigurationError


def read_table(path: Path, columns: Sequence[str], *, key: str | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file that has `columns`, with no value of the column `key` twice.

    Raises BadConfigurationError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadConfigurationError(f"{path}: {error}") from error
    if missing := [name for name in columns if name not in (reader.fieldnames or [])]:
        raise BadConfigurationError(f"{path}: no column {', '.join(missing)}; it has {reader.fieldnames}")
    if short := [line for line, row in enumerate(rows, 2) if any(row[name] is None for name in columns)]:
        raise BadConfigurationError(f"{path}: line {short[0]} has too few values")
    if key is not None:
        seen = set[str]()
        for line, row in enumerate(rows, 2):
            if row[key] in seen:
                raise BadConfigurationError(f"{path}: line {line}: {row[key]!r} is there twice")
            seen.add(row[key])
    return rows
