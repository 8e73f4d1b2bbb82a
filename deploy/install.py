"""Installs packages into an image so that two builds give the same files: `python TOOLS/install.py PIP-ARGUMENT...`.

Run it with the interpreter that is to have them. TOOLS holds what works and is in no image: pip, setuptools, strip.
"""

import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.util import cache_from_source
from itertools import pairwise
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parent
# --no-compile: pip's byte code carries the time of the installation.
PIP: Final = (
    "install", "--quiet", "--no-cache-dir", "--no-compile", "--root-user-action=ignore", "--only-binary=:all:",
    "--no-build-isolation",
)  # fmt: skip
# Sets would be written to the byte code in an order that is drawn anew for each process.
ORDERED: Final = {"PYTHONHASHSEED": "0"}
# What packages bring that no process of ours opens; with the debug symbols, a fifth of the serving image.
UNNEEDED: Final = (
    "numpy/**/tests",
    "onnxruntime/capi/libonnxruntime.so.*",  # for programs in C; Python's module holds the runtime itself
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
)


def main(arguments: Sequence[str]) -> None:
    """Install, take out what nobody needs, compile; what an image's earlier layers hold is not written again."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ORDERED})  # noqa: S606 -- our own
    start = {path for root in roots(arguments) for path in root.rglob("*.so")}
    path = os.pathsep.join(str(TOOLS / name) for name in ("pip", "setuptools"))
    command = [sys.executable, "-m", "pip", *PIP, *arguments]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
    for root in roots(arguments):
        remove_unneeded(root)
        strip(root, known=start)
        compile_new(root)


def roots(arguments: Sequence[str]) -> Iterator[Path]:
    """The folders with modules: those of the interpreter, and what pip was told to install into."""
    yield Path(sysconfig.get_path("stdlib"))
    yield Path(sysconfig.get_path("purelib"))
    yield from (Path(value) for option, value in pairwise(arguments) if option == "--target")


def remove_unneeded(root: Path) -> None:
    """Take out the files and folders that `UNNEEDED` lists."""
    for path in [path for pattern in UNNEEDED for path in root.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def strip(root: Path, *, known: set[Path]) -> None:
    """Take the debug symbols out of Python's new extension modules; libraries beside them may not survive it."""
    modules = [str(path) for path in sorted(root.rglob("*.cpython-*.so")) if path not in known]
    if modules:
        command = [str(TOOLS / "strip" / "strip"), "--strip-debug", *modules]
        subprocess.run(command, env={"LD_LIBRARY_PATH": str(TOOLS / "strip")}, check=True)


def compile_new(root: Path) -> None:
    """Write the byte code of every module below `root` that has none; it holds neither times nor temporary paths."""
    for module in sorted(root.rglob("*.py")):
        if Path(cache_from_source(str(module))).exists():
            continue
        try:
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(module), doraise=True, invalidation_mode=mode)
        except (py_compile.PyCompileError, UnicodeDecodeError):
            continue  # a template, or made for another version of Python: nobody imports it


if __name__ == "__main__":
    main(sys.argv[1:])
