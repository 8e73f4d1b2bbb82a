"""How images are named, built, bundled and audited, as far as that needs no Docker."""

import json
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import audit, bundle, frozen, install, sbom
from deploy.images import NAMES, SHIPPED, Plan, UsageError, chosen, reported
from deploy.requirements import requirements

KNOWN = {"SOURCE_REVISION": "abc", "SOURCE_DATE_EPOCH": "7", "TAG": "1.2.3"}
LOAD = Path(bundle.__file__).with_name("load.sh")


def test_images_carry_the_projects_version_and_source():
    """Without being told anything, the tag is the project's version and the revision is the history's."""
    plan = Plan.read({})
    assert plan.tag("serving") == f"boneage/serving:{plan.version}"
    assert len(plan.revision.removesuffix("-dirty")) == 40
    assert int(plan.epoch) > 1.7e9


def test_a_build_is_told_what_the_environment_says():
    """Registry, base, runtime, torch and options; what is not said is left to the Dockerfile."""
    told = KNOWN | {"REGISTRY": "hospital.example/ai/", "BASE": "python@sha256:1", "TORCH": "torch==3", "RUNTIME": ""}
    command = Plan.read(told | {"DOCKER": "/opt/docker", "DOCKER_BUILD_OPTIONS": "--pull --quiet"}).command("training")
    assert command[:4] == ["/opt/docker", "build", "--pull", "--quiet"]
    assert command[command.index("--target") + 1] == "training"
    assert command[command.index("--tag") + 1] == "hospital.example/ai/boneage/training:1.2.3"
    arguments = {word for word, before in zip(command[1:], command, strict=False) if before == "--build-arg"}
    assert arguments == {
        "VERSION=1.2.3", "SOURCE_REVISION=abc", "SOURCE_DATE_EPOCH=7", "BASE=python@sha256:1", "TORCH=torch==3"
    }  # fmt: skip


def test_images_are_built_in_an_order_of_their_own():
    """Whatever the order they are asked for in; one that there is none of is named."""
    assert list(chosen([])) == list(NAMES)
    assert list(chosen([], SHIPPED)) == list(SHIPPED)
    assert list(chosen(["training", "serving"])) == ["serving", "training"]
    with pytest.raises(UsageError, match="no image pacs; there are serving, "):
        list(chosen(["serving", "pacs"]))


def test_what_ails_a_build_is_one_line(capsys):
    """A usage error is no traceback."""
    assert reported(lambda names: len(list(chosen(names))), ["pacs"]) == 1
    assert capsys.readouterr().err.startswith("no image pacs")


def test_requirements_are_those_of_the_extras():
    """The project's own, then each extra's; a runtime is one of them."""
    lines = list(requirements(["serving", "cpu"]))
    assert any(line.startswith("numpy") for line in lines)
    assert any(line.startswith("grpcio>=") for line in lines)
    assert any(line.startswith("onnxruntime>=") for line in lines)
    assert not any(line.startswith(("torch", "kubernetes", "onnxruntime-gpu")) for line in lines)
    with pytest.raises(KeyError):
        list(requirements(["tpu"]))


def test_byte_code_is_written_once_and_holds_no_time(tmp_path):
    """What is there is left alone; what is new needs no look at its source; templates are skipped."""
    (tmp_path / "old.py").write_text("x = 1")
    (tmp_path / "template.py").write_text("x = {{ value }} !")
    install.compile_new(tmp_path)
    old = next(tmp_path.glob("__pycache__/old.*"))
    before = old.stat().st_mtime_ns
    (tmp_path / "new.py").write_text("x = 2")
    install.compile_new(tmp_path)
    assert old.stat().st_mtime_ns == before
    assert {path.name.split(".")[0] for path in tmp_path.glob("__pycache__/*")} == {"old", "new"}
    header, code = old.read_bytes()[:16], marshal.loads(old.read_bytes()[16:])
    assert header[4:8] == b"\x01\x00\x00\x00"  # by a hash, which is not checked
    assert code.co_filename == str(tmp_path / "old.py")


def test_what_no_process_opens_is_taken_out(tmp_path):
    """Tests of packages and libraries for other languages go, the rest stays."""
    for name in ("numpy/lib/tests/test_io.py", "numpy/lib/io.py", "onnxruntime/capi/libonnxruntime.so.1.32.0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    install.remove_unneeded(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "numpy/lib/io.py"
    ]


def test_packages_are_listed_as_pip_does():
    """By the interpreter itself, without the project, in an order that does not change."""
    command = [sys.executable, frozen.__file__]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == sorted(lines, key=str.lower)
    assert any(line.startswith("numpy==") for line in lines)
    assert not any(line.startswith("boneage==") for line in lines)


def test_a_list_says_which_image_it_is_of():
    """A registry's port is no version."""
    described = sbom.with_subject({"components": [], "metadata": {"tools": 1}}, "host:5000/boneage/serving:0.1.0")
    component = described["metadata"]["component"]
    assert (component["name"], component["version"]) == ("host:5000/boneage/serving", "0.1.0")
    assert described["metadata"]["tools"] == 1


CLEAN = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "not found"}
HARMFUL = {
    "name": "c",
    "version": "2",
    "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}, {"id": "X", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("packages", "outcome", "said"),
    [
        ([CLEAN], audit.Outcome.CLEAN, "no known vulnerability in 1 packages"),
        ([CLEAN, SKIPPED], audit.Outcome.NOT_AUDITED, "knows 1 of 2 packages, not b"),
        ([SKIPPED], audit.Outcome.NOT_AUDITED, "knows 0 of 1 packages"),
        ([CLEAN, HARMFUL], audit.Outcome.VULNERABLE, "c 2: CVE-1, fixed in 3"),
        ([SKIPPED, HARMFUL], audit.Outcome.VULNERABLE, "c 2: X, fixed in none yet"),
        (None, audit.Outcome.NOT_AUDITED, "did not answer"),
    ],
)
def test_what_was_not_audited_is_no_success(packages, outcome, said):
    """A vulnerability outweighs what could not be asked, and that outweighs all that is well."""
    judged, lines = audit.judge(None if packages is None else {"dependencies": packages})
    assert judged == outcome
    assert said in "\n".join(lines)


@pytest.mark.parametrize(("answer", "code"), [({"dependencies": [CLEAN]}, 0), ("no network", 69)])
def test_an_audit_goes_by_what_was_answered(tmp_path, answer, code):
    """pip-audit ends with 0 where it knew of no package at all; what it says is looked at."""
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer) if code == 0 else answer}'\n")
    program.chmod(0o755)
    assert audit.main([str(program), str(tmp_path / "serving.txt")]) == code


@pytest.fixture
def bundled(tmp_path):
    """A bundle's folder, with an archive that is none."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "boneage-0.1.0.tgz").write_bytes(b"chart")
    (tmp_path / "images.tar").write_bytes(b"archive")
    (tmp_path / "load.sh").write_bytes(LOAD.read_bytes())
    (tmp_path / bundle.SUMS).write_text("".join(bundle.digests(tmp_path)))
    return tmp_path


def load(folder):
    """How the bundle's script ends."""
    environment = {**os.environ, "LOAD": "echo loading"}
    return subprocess.run(["sh", folder / "load.sh"], env=environment, capture_output=True, text=True, check=False)


def test_a_bundle_that_is_whole_is_loaded(bundled):
    """From any folder, by the command that was named."""
    done = load(bundled)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "loading images.tar")


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(b"other"), Path.unlink])
def test_a_bundle_that_was_changed_is_not_loaded(bundled, harm):
    """A file that differs, or is missing, stops it before anything is loaded."""
    harm(bundled / "charts" / "boneage-0.1.0.tgz")
    done = load(bundled)
    assert done.returncode
    assert "loading" not in done.stdout
    assert "boneage-0.1.0.tgz" in done.stdout + done.stderr
