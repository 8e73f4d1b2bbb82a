"""Lists what built images hold, as CycloneDX and as pip's lines: `python -m deploy.sbom FOLDER [NAME...]`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.images import SHIPPED, Plan, chosen, reported, run


def describe(name: str, plan: Plan, folder: Path) -> Path:
    """Write FOLDER/NAME.cdx.json and FOLDER/NAME.txt, its packages. Raises CalledProcessError without such an image."""
    tag = plan.tag(name)
    lists = folder / name
    run(
        plan.docker, "build", "--quiet", *plan.options, *plan.base, "--build-arg", f"SUBJECT={tag}",
        "--file", "deploy/sbom.Dockerfile", "--output", f"type=local,dest={lists}", "deploy",
    )  # fmt: skip
    described = with_subject(json.loads((lists / "sbom.cdx.json").read_text(encoding="utf-8")), tag)
    (folder / f"{name}.cdx.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    (lists / "sbom.cdx.json").unlink()
    packages = (lists / "packages.txt").replace(folder / f"{name}.txt")
    lists.rmdir()
    return packages


def with_subject(described: dict[str, Any], tag: str) -> dict[str, Any]:
    """The same list, saying which image it is of."""
    image, _, version = tag.rpartition(":")
    subject = {"type": "container", "bom-ref": tag, "name": image, "version": version}
    return {**described, "metadata": {**described["metadata"], "component": subject}}


def main(arguments: Sequence[str]) -> int:
    """Describe the images that are wanted, or else those that are shipped."""
    folder = Path(arguments[0]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan.read()
    for name in chosen(arguments[1:], SHIPPED):
        packages = describe(name, plan, folder)
        count = len(packages.read_text(encoding="utf-8").splitlines())
        print(f"{plan.tag(name)}: {count} packages, {packages.with_suffix('.cdx.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(reported(main, sys.argv[1:]))
