"""The configuration that a run was begun with, and what it learns from, kept beside its results: no other goes on.

A run whose labels, outlines or prepared hands are others by now would else mix the two, or, once it is finished, end at
once with the weights of the old ones.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from training.jobs.command import JobConfig
from training.publish.published import Published
from training.run.exits import BadConfigurationError
from training.run.results import write_json, write_text

LOG = logging.getLogger(__name__)
CONFIG: Final = "config.yaml"
LEARNT_FROM: Final = "learnt_from.json"
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


def check_learnt_from(learnt_from: Mapping[str, str], out: Path, *, state: str = STATE) -> None:
    """Raise BadConfigurationError where `out` holds the `state` of a run that learnt from something else.

    `learnt_from` has a digest of each thing by the name that a person knows it by; the message has those that differ.
    """
    kept = out / LEARNT_FROM
    if not (out / state).exists() or not kept.exists():
        return
    before = json.loads(kept.read_text())
    if differing := [name for name, digest in learnt_from.items() if before.get(name, digest) != digest]:
        raise BadConfigurationError(
            f"{out} was begun with other {' and '.join(differing)} than there are now; delete it or name another folder"
        )


def keep_begun(config: JobConfig, learnt_from: Mapping[str, str], out: Path) -> None:
    """Leave both in `out`, each whole or not at all. Raises StoreUnwritableError."""
    keep_config(config, out)
    write_json(out / LEARNT_FROM, dict(learnt_from), indent=1)


def keep_config(config: JobConfig, out: Path) -> None:
    """Leave it in `out`, whole or not at all. Raises StoreUnwritableError."""
    write_text(out / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def as_begun(wanted: Published, out: Path, key: str) -> Published:
    """The same with its version: the one that served as the run in `out` began, whose configuration has it as `key`.

    Where none was begun with this, the one that serves now: a run that goes on is not to meet another. Raises as
    `Published.named` does.
    """
    if wanted.version is not None:
        return wanted
    kept = out / CONFIG
    before = yaml.safe_load(kept.read_text()).get(key) if kept.exists() else None
    unnamed = {"store": wanted.store, "model": wanted.model}
    if isinstance(before, dict) and unnamed.items() <= before.items():
        LOG.info(
            "%s goes on with version %s of %s, which served when it was begun", out, before["version"], wanted.model
        )
        return Published(**before)
    return wanted.named()


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
