"""Lays out a Triton from `nvidia-pytriton`, with the `onnxruntime` backend that those builds lack.

    python deploy/triton/assemble.py DEST

Run it with the interpreter of an environment that has nvidia-pytriton and onnxruntime. DEST/tritonserver starts the
server with DEST/backends; both go by where the environment lies now.
"""

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

SITE: Final = Path(sysconfig.get_path("purelib"))
SERVER: Final = SITE / "pytriton" / "tritonserver"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
WRAPPER: Final = """\
#!/bin/sh
export LD_LIBRARY_PATH="{site}/nvidia_pytriton.libs${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export PATH="{scripts}:$PATH"
export PYTHONPATH="{site}"
exec "{server}/bin/tritonserver" --backend-directory "{backends}" "$@"
"""


def assemble(destination: Path) -> None:
    """Write `destination`/backends and `destination`/tritonserver, in place of what an earlier run wrote."""
    backends = destination.resolve() / "backends"
    shutil.rmtree(backends, ignore_errors=True)
    shutil.copytree(SERVER / "backends" / "python", backends / "python")
    # Models run in a process of this program, which is built for one version of Python.
    shutil.copy(SERVER / "python_backend_stubs" / PYTHON / "triton_python_backend_stub", backends / "python")
    shutil.copytree(Path(__file__).with_name("onnxruntime"), backends / "onnxruntime")
    wrapper = backends.with_name("tritonserver")
    scripts = sysconfig.get_path("scripts")
    wrapper.write_text(WRAPPER.format(site=SITE, scripts=scripts, server=SERVER, backends=backends))
    wrapper.chmod(0o755)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [destination]:
            assemble(Path(destination))
        case _:
            sys.exit(__doc__)
