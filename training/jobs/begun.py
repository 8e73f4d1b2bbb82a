"""The configuration that a run was begun with, kept beside its results: no other may go on with them."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from training.jobs.command import JobConfig
from training.run.exits import BadConfigurationError
from training.run.room import whole

CONFIG: Final = "config.yaml"
STATE: Final = "last.pt"
FREE: Final = frozenset({"out", "checkpoint_every_s"})
"""What weights do not depend on."""


def check_begun(config: JobConfig, out: Path, *, state: str = STATE, free: Collection[str] = FREE) -> None:
    """Raise BadConfigurationError where `out` holds the `state` of a run that was begun with another configuration.

    Keys that are `free` may differ. The message names those that do.
    """
    kept = out / CONFIG
    if not (out / state).exists() or not kept.exists():
        return
    before, now = _defaults_filled(type(config), yaml.safe_load(kept.read_text())), config.model_dump(mode="json")
    if differing := list(_differing({key: now[key] for key in now if key not in free}, before)):
        raise BadConfigurationError(
            f"{out} was begun with another {', '.join(differing)}; delete it or name another folder"
        )


def keep_config(config: JobConfig, out: Path) -> None:
    """Leave it in `out`, whole or not at all. Raises StoreUnwritableError."""
    with whole(out / CONFIG) as file:
        file.write(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())


def _differing(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    for key, value in now.items():
        other = before.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from (f"{key}.{name}" for name in _differing(value, other))
        elif value != other:
            yield key


def _defaults_filled(kind: type[JobConfig], before: Any) -> dict[str, Any]:
    """A kept configuration with the keys that there are by now, so far as it is one."""
    try:
        return kind.model_validate(before).model_dump(mode="json")
    except ValidationError:
        return before if isinstance(before, dict) else {}
