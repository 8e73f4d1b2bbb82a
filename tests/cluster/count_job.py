"""A training job that only counts, for the tests of `boneage jobs`: mounted into an image where the others are."""

import time
from pathlib import Path
from typing import Literal

from training.jobs.command import JobConfig, command
from training.run.exits import BadConfigurationError, StoreUnwritableError, WaitingForLabels

ENDS = {"waiting": WaitingForLabels, "bad": BadConfigurationError, "unwritable": StoreUnwritableError}


class CountConfig(JobConfig):
    """How far, how slowly, in which file, and how it ends."""

    out: Path
    to: int
    pause_s: float = 0.0
    then: Literal["done", "waiting", "bad", "unwritable"] = "done"


def run(config: CountConfig) -> None:
    """Count on from where a run before was stopped."""
    count = int(config.out.read_text()) if config.out.exists() else 0
    while count < config.to:
        count += 1
        config.out.write_text(str(count))
        print(f"counted {count}", flush=True)
        time.sleep(config.pause_s)
    if config.then != "done":
        raise ENDS[config.then](f"counted to {config.to}")


if __name__ == "__main__":
    command(CountConfig, run, __doc__)
