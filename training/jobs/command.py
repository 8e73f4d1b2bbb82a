"""What every job's command line has in common: one YAML file in, validated whole before anything starts."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from training.run.ending import Ending
from training.run.exits import BadConfigurationError, JobError


class JobConfig(BaseModel):
    """Base of all job configurations: unknown keys are refused, `$NAME` in paths is taken from the environment."""

    model_config = ConfigDict(extra="forbid")


VARIABLE: Final = re.compile(r"\$(?:[A-Za-z_]\w*|\{[^}]*\})")
Config = TypeVar("Config", bound=JobConfig)


def read_config(kind: type[Config], path: Path) -> Config:
    """The configuration in a YAML file, with environment variables expanded. Raises BadConfigurationError."""
    try:
        values = yaml.safe_load(os.path.expandvars(path.read_text()))
        if unset := sorted(set(_unset(values))):
            raise BadConfigurationError(f"the environment has no {', '.join(unset)}, which the configuration names")
        return kind.model_validate(values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise BadConfigurationError(str(error)) from error


def _unset(values: Any) -> Iterator[str]:
    """Variables that were left in some text of a configuration, since the environment has none of them."""
    match values:
        case str():
            yield from VARIABLE.findall(values)
        case dict():
            for value in values.values():
                yield from _unset(value)
        case list():
            for value in values:
                yield from _unset(value)


def command(kind: type[Config], run: Callable[[Config], None], description: str | None) -> None:
    """Run a job as a command, `--config FILE`; how it ended is told by an `ExitCode`, and why on standard error."""
    logging.basicConfig(format="%(message)s")
    for name in ("training", "__main__"):
        logging.getLogger(name).setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see training/configs")
    path = parser.parse_args().config

    def whole() -> None:
        try:
            run(read_config(kind, path))
        except JobError as error:
            raise type(error)(f"{path}: {error}") from error

    try:
        ending = Ending.read(Path(sys.argv[0]).stem, os.environ)
    except BadConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(ending.of(whole))
