"""What every job's command line has in common: one YAML file in, validated whole before anything starts."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from training.run.exits import ExitCode, JobError


class JobConfig(BaseModel):
    """Base of all job configurations: unknown keys are refused, `$NAME` in paths is taken from the environment."""

    model_config = ConfigDict(extra="forbid")


Config = TypeVar("Config", bound=JobConfig)


def read_config(kind: type[Config], path: Path) -> Config:
    """The configuration in a YAML file, with environment variables expanded."""
    return kind.model_validate(yaml.safe_load(os.path.expandvars(path.read_text())))


def command(kind: type[Config], run: Callable[[Config], None], description: str | None) -> None:
    """Run a job as a command, `--config FILE`; how it ended is told by an `ExitCode`, and why on standard error."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see training/configs")
    path = parser.parse_args().config
    try:
        config = read_config(kind, path)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        sys.exit(ExitCode.BAD_CONFIGURATION)
    try:
        run(config)
    except JobError as error:
        print(f"{path}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
