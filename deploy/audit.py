"""Asks which known vulnerabilities packages have: `python -m deploy.audit PIP_AUDIT LIST...`; exit codes in `Outcome`.

The lists are those of `deploy.sbom`. What the service does not know was not audited, which is said, and is no success.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json")


class Outcome(IntEnum):
    """How an audit ends. 69 is BSD's EX_UNAVAILABLE."""

    CLEAN = 0
    VULNERABLE = 1
    NOT_AUDITED = 69


def audit(program: str, packages: Path) -> Mapping[str, Any] | None:
    """What pip-audit found; none where it could not ask, in which case it has said why."""
    command = [program, *OPTIONS, "--requirement", str(packages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return found


def judge(found: Mapping[str, Any] | None) -> tuple[Outcome, list[str]]:
    """The outcome, and what there is to say of it, one line for each vulnerability."""
    if found is None:
        return Outcome.NOT_AUDITED, ["NOT AUDITED: the vulnerability service of the package index did not answer"]
    packages = found["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    lines = [line for package in packages for line in vulnerabilities(package)]
    if skipped:
        known = len(packages) - len(skipped)
        named = f", not {', '.join(skipped)}" if known else ""
        lines.append(f"NOT AUDITED: the vulnerability service knows {known} of {len(packages)} packages{named}")
    outcome = Outcome.VULNERABLE if len(lines) > bool(skipped) else Outcome.NOT_AUDITED if skipped else Outcome.CLEAN
    return outcome, lines or [f"no known vulnerability in {len(packages)} packages"]


def vulnerabilities(package: Mapping[str, Any]) -> Iterator[str]:
    """One line for each that a package has."""
    for known in package.get("vulns", ()):
        fixed = ", ".join(known["fix_versions"]) or "none yet"
        yield f"VULNERABLE: {package['name']} {package['version']}: {known['id']}, fixed in {fixed}"


def main(arguments: Sequence[str]) -> int:
    """Audit each list; a vulnerability outweighs what could not be asked."""
    program, *lists = arguments
    outcomes = {Outcome.CLEAN}
    for packages in map(Path, lists):
        outcome, lines = judge(audit(program, packages))
        outcomes.add(outcome)
        print(*(f"{packages.stem}: {line}" for line in lines), sep="\n", flush=True)
    return Outcome.VULNERABLE if Outcome.VULNERABLE in outcomes else max(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
