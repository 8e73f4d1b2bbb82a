"""The house keeps its order: what each service folder holds, how modules open, how long they may be."""

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
NO_SERVICES = {"client", "cli", "core"}
SERVICE_FILES = {"__init__.py", "__main__.py", "settings.py", "servicer.py", "pipeline.py"}
CODE = ("services", "training", "benchmarks", "deploy", "tests", "protos")
MAXIMUM_LINES = 300

service_folders = [path for path in sorted(SERVICES.iterdir()) if path.is_dir() and path.name not in NO_SERVICES]
service_folders = [path for path in service_folders if (path / "__init__.py").exists()]
modules = [path for name in CODE for path in sorted((ROOT / name).rglob("*.py")) if "gen" not in path.parts]


def contracts() -> list[dict]:
    """The import contracts."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize("folder", service_folders, ids=lambda path: path.name)
def test_every_service_has_the_same_four_files(folder):
    """Whoever knows one service finds everything in the next."""
    assert {path.name for path in folder.glob("*.py")} >= SERVICE_FILES


@pytest.mark.parametrize("folder", service_folders, ids=lambda path: path.name)
def test_every_service_is_in_the_import_contracts(folder):
    """A new service is held to the rules from its first commit."""
    name = f"services.{folder.name}"
    layers, _, independent, _, numpy_only, *_ = contracts()
    assert name in layers["layers"][0].split(" | ")
    assert name in independent["modules"]
    assert f"{name}.pipeline" in numpy_only["source_modules"]


def test_no_module_is_named_for_nothing():
    """A module is named for what it does."""
    assert [path for path in modules if path.stem in {"util", "utils", "helpers", "misc", "common"}] == []


def test_every_module_opens_with_what_it_is_for():
    """The first statement is a docstring that begins with a whole sentence or a title line."""
    openings = {path: ast.get_docstring(ast.parse(path.read_text())) for path in modules}
    assert [path for path, opening in openings.items() if not opening] == []


@pytest.mark.parametrize(
    "kept", ["outlines/runs/a/result.json", "schedules/runs/a/errors.npz", "schedules/runs/a/log.jsonl"]
)
def test_what_studies_came_to_is_not_ignored(kept):
    """It is hours of work, and a study goes on from it wherever it is cloned."""
    asked = subprocess.run(["git", "check-ignore", "--no-index", f"docs/studies/{kept}"], cwd=ROOT, check=False)
    assert asked.returncode == 1


def test_no_module_is_long():
    """What passes 300 lines is two modules; tests may list more cases."""
    code = [path.relative_to(ROOT) for path in modules if "tests" not in path.relative_to(ROOT).parts]
    lengths = {path.as_posix(): (ROOT / path).read_text().count("\n") for path in code}
    assert {path: length for path, length in lengths.items() if length > MAXIMUM_LINES} == {}
