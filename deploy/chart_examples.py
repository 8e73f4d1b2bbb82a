"""Renders the charts' examples: `python deploy/chart_examples.py HELM CHART...` writes CHART/examples/CASE/rendered.

What a change of a chart does to what is installed is read there, and a test compares it with a fresh rendering.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

RELEASE: Final = "boneage"
KUBERNETES: Final = "1.34.0"
DRAWN: Final = re.compile(r"^(  key: )[A-Za-z0-9+/]{80,}=*$", re.MULTILINE)
"""The host key, which is drawn anew wherever none is there."""


def cases(chart: Path) -> Iterator[Path]:
    """Folders of a chart's examples."""
    yield from sorted(path.parent for path in chart.glob("examples/*/values.yaml"))


def rendered(helm: str, chart: Path, case: Path) -> Mapping[str, str]:
    """What helm makes of the chart with the values of an example, by file."""
    with tempfile.TemporaryDirectory() as name:
        options = ("--namespace", RELEASE, "--kube-version", KUBERNETES, "--values", str(case / "values.yaml"))
        command = [helm, "template", RELEASE, str(chart), *options, "--output-dir", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr)
        folder = Path(name) / chart.name / "templates"
        return {
            path.relative_to(folder).as_posix(): DRAWN.sub(r"\1DRAWN-AT-THE-INSTALLATION", path.read_text("utf-8"))
            for path in sorted(folder.rglob("*.yaml"))
        }


def write(helm: str, chart: Path) -> None:
    """Write all examples of a chart anew."""
    for case in cases(chart):
        shutil.rmtree(case / "rendered", ignore_errors=True)
        for name, content in rendered(helm, chart, case).items():
            path = case / "rendered" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    for folder in sys.argv[2:]:
        write(sys.argv[1], Path(folder))
