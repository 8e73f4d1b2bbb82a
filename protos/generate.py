"""Generates the Python code of the protos: `python protos/generate.py [FOLDER]`, by default `protos/gen`."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

PROTOS: Final = Path(__file__).parent
PLUGINS: Final = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
OUTPUTS: Final = ("--python_out={}", "--grpc_python_out={}", "--mypy_out=quiet:{}", "--mypy_grpc_out=quiet:{}")
PACKAGES: Final = ("boneage", "boneage/v1")


def generate(out: Path) -> None:
    """Write messages, services and their types into `out`. Raises RuntimeError where the compiler fails."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("boneage/**/*.proto"))
    plugins = [f"--plugin={name}={Path(sys.executable).with_name(name)}" for name in PLUGINS]
    includes = [f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
    if protoc.main(["protoc", *includes, *plugins, *(output.format(out) for output in OUTPUTS), *sources]):
        raise RuntimeError("protoc failed; what it said stands above")
    for package in PACKAGES:
        (out / package / "__init__.py").write_text('"""Generated from protos/; never edited."""\n')


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS / "gen")
