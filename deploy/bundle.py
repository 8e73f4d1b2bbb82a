"""Puts images and charts into a folder for hospitals without internet: `python -m deploy.bundle FOLDER [NAME...]`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Final

from deploy.images import ROOT, SHIPPED, Plan, UsageError, chosen, reported, run

CHARTS: Final = ROOT / "charts"
SUMS: Final = "SHA256SUMS"


def main(arguments: Sequence[str]) -> int:
    """Make the folder; its list of digests comes last, so that a folder with one is whole."""
    folder = Path(arguments[0]).resolve()
    plan = Plan.read()
    also = os.environ.get("IMAGES_ALSO", "").split()
    folder.mkdir(parents=True)
    save_images([*map(plan.tag, chosen(arguments[1:], SHIPPED)), *also], plan, folder)
    package_charts(folder / "charts", os.environ.get("HELM", "helm"))
    copy_sboms(ROOT / "build" / "sbom", folder / "sbom")
    shutil.copy(ROOT / "deploy" / "load.sh", folder)
    (folder / SUMS).write_text("".join(digests(folder)), encoding="utf-8")
    print(f"{folder}: {sum(path.stat().st_size for path in folder.rglob('*')) / 1e9:.2f} GB")
    return 0


def save_images(tags: Sequence[str], plan: Plan, folder: Path) -> None:
    """Write images.tar, in which what images have in common lies once, and images.txt with the id of each.

    Raises UsageError where one is not there.
    """
    lines = [f"{tag} {image_id(tag, plan)}\n" for tag in tags]
    archive = folder / "images.tar"
    run(plan.docker, "save", "--output", str(archive), *tags)
    archive.chmod(0o644)  # docker lets only its maker read it
    (folder / "images.txt").write_text("".join(lines), encoding="utf-8")


def image_id(tag: str, plan: Plan) -> str:
    """The digest of an image's configuration, which names all of its content."""
    command = [plan.docker, "image", "inspect", "--format", "{{.Id}}", tag]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"no image {tag} here: {done.stderr.strip()}")
    return done.stdout.strip()


def package_charts(folder: Path, helm: str) -> None:
    """Package every chart that is installed by itself; libraries are inside of those."""
    folder.mkdir()
    for chart in sorted(CHARTS.glob("*/Chart.yaml")):
        if "type: library" not in chart.read_text(encoding="utf-8"):
            run(helm, "package", str(chart.parent), "--destination", str(folder))


def copy_sboms(source: Path, folder: Path) -> None:
    """Take along what `make sbom` has written."""
    if source.is_dir():
        shutil.copytree(source, folder)


def digests(folder: Path) -> Iterator[str]:
    """The lines that `sha256sum --check` reads, for every file below a folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            yield f"{file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n"


if __name__ == "__main__":
    sys.exit(reported(main, sys.argv[1:]))
