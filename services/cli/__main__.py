"""Starts the `boneage` command, and says what is wrong with an installation that cannot."""

import importlib
import os
import sys

from services.cli.environment import check_packages, check_python


def main() -> None:
    """Run the command; where a package is missing or damaged, name each fault with its fix."""
    try:
        commands = importlib.import_module("services.cli.commands")
    except ImportError as error:
        sys.exit(explain(error))
    try:
        sys.exit(commands.call())
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def explain(error: ImportError) -> str:
    """Why the command does not start."""
    faults = [finding for finding in (*check_python(), *check_packages()) if finding.fault]
    lines = [f"  {finding.name}: {finding.detail}. Fix: {finding.fix}" for finding in faults]
    return "\n".join([f"boneage cannot start: {error}", *lines])


if __name__ == "__main__":
    main()
