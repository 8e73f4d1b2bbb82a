"""The API: its style, what a change of it may not break, and that the generated code is that of the protos."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
BUF = Path(sys.executable).with_name("buf")


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)


def generated(folder: Path) -> dict[str, bytes]:
    """Content of every generated file by its path."""
    files = (path for path in folder.rglob("*") if path.suffix in {".py", ".pyi"})
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The protos of the last release tag, or of the last commit before the first release."""
    tag = run("git", "describe", "--tags", "--abbrev=0").stdout.strip()
    folder = tmp_path_factory.mktemp("published")
    archive = subprocess.run(["git", "archive", tag or "HEAD", "protos"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder / "protos"


def test_generated_code_is_that_of_the_protos(tmp_path):
    """`make protos` would change nothing, to the byte."""
    run(sys.executable, PROTOS / "generate.py", tmp_path)
    assert generated(tmp_path) == generated(PROTOS / "gen")


def test_protos_keep_the_style():
    """The STANDARD and COMMENTS rules of buf: names, one package a version, a comment on every element."""
    found = run(BUF, "lint", cwd=PROTOS)
    assert found.returncode == 0, found.stdout + found.stderr


def test_protos_break_no_client(published):
    """Whoever was built against the published protos can go on."""
    found = run(BUF, "breaking", "--against", published, cwd=PROTOS)
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_breaking_change_is_found(published, tmp_path):
    """A field that changes its number is told by name."""
    changed = shutil.copytree(published, tmp_path / "protos")
    proto = changed / "boneage" / "v1" / "segmentation.proto"
    proto.write_text(proto.read_text().replace("double foreground_fraction = 3;", "double foreground_fraction = 13;"))
    found = run(BUF, "breaking", "--against", published, cwd=changed)
    assert found.returncode != 0
    assert "foreground_fraction" in found.stdout
