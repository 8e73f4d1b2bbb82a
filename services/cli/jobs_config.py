"""Changes a job's configuration from the command line: `--config FILE` in place of it, `--set KEY=VALUE` in it."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from services.cli.usage import UsageError, printable

MAXIMUM_BYTES: Final = 900_000
"""What a ConfigMap holds, with room for the rest of the object."""

Config = dict[str, Any]


def configured(given: str, file: Path | None, changes: Sequence[str]) -> str:
    """The configuration to run with, as YAML: of the file, else the one that is `given`, with the changes made.

    Raises UsageError.
    """
    text, place = (given, "the configuration in the cluster") if file is None else (_text(file), printable(file))
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{place} is no YAML: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{place} holds no keys with values, but {type(config).__name__}")
    for change in changes:
        config = changed(config, change)
    made = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    if len(made.encode()) > MAXIMUM_BYTES:
        raise UsageError(f"the configuration is longer than {MAXIMUM_BYTES} bytes")
    return made


def changed(config: Config, change: str) -> Config:
    """The configuration with one change, `a.b=VALUE`; the value is YAML, and a number stands for a place in a list.

    Raises UsageError for what is no such change, and where the path leads through something that has no keys.
    """
    path, equals, value = change.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {printable(change)}: it has to be KEY=VALUE, with dots between the parts of a key")
    try:
        wanted = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {printable(change)}: the value is no YAML: {error}") from None
    result = copy.deepcopy(config)
    inner: Any = result
    for depth, key in enumerate(keys[:-1]):
        place = _place(inner, key, keys[:depth], change)
        if isinstance(inner, dict):
            inner.setdefault(place, {})
        inner = inner[place]
    inner[_place(inner, keys[-1], keys[:-1], change)] = wanted
    return result


def _place(inner: Any, key: str, above: Sequence[str], change: str) -> Any:
    """The key of a map, or the index of a list."""
    if isinstance(inner, dict):
        return key
    if not isinstance(inner, list):
        raise UsageError(f"--set {printable(change)}: {'.'.join(above)} is {inner!r}, which has nothing inside")
    if not key.isdecimal() or int(key) >= len(inner):
        raise UsageError(f"--set {printable(change)}: {'.'.join(above)} is a list of {len(inner)}, counted from 0")
    return int(key)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {printable(file)}: {error}") from None
