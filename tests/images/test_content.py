"""What the images hold: no more than they need, the same in every build, and a list of it."""

import hashlib
import json
import subprocess
import tarfile

import pytest

from deploy import bundle, sbom
from deploy.images import NAMES, SHIPPED
from tests.images.containers import docker, image, inspected, output, plan

MAXIMUM_ABOVE_BASE = 400e6
USER = "65532:65532"
PIP = ("pip", "ensurepip", "setuptools")
COMPILERS = ("cc", "gcc", "c++", "g++", "clang", "ld", "as", "make", "pip", "pip3")
NOT_SERVING = ("torch", "torchvision", "timm", "scipy", "kubernetes", "s3fs", "pytest")
FOUND = """
import importlib.util, json, shutil, sys
modules, commands = json.loads(sys.argv[1])
print(json.dumps([name for name in modules if importlib.util.find_spec(name)]
                 + [name for name in commands if shutil.which(name)]))
"""
MADE_BY_DOCKER = {".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "dev", "proc", "sys"}


def found(name, modules, commands=(), *, python="python"):
    """Which of these modules an image's interpreter finds, and which of these commands lie on its PATH."""
    return json.loads(output(name, python, "-c", FOUND, json.dumps([modules, commands])))


@pytest.mark.parametrize("name", NAMES)
def test_images_run_as_nobody_and_cannot_install(name):
    """A user of its own without rights; no pip, in our environment or in the base's; nothing that compiles."""
    config = inspected(name)["Config"]
    assert config["User"] == USER
    assert config["Labels"]["org.opencontainers.image.version"] == plan().version
    assert found(name, PIP, COMPILERS) == []
    base = output(name, "python", "-c", "import os, sys; print(os.path.realpath(sys._base_executable))")
    assert found(name, PIP, python=base) == []


def test_serving_holds_what_serving_needs():
    """Neither what trains nor what talks to a cluster or a store is in it."""
    assert found("serving", NOT_SERVING) == []
    assert found("release", ("kubernetes", "s3fs", "model_signing")) == ["kubernetes", "s3fs", "model_signing"]
    assert found("release", ("torch", "timm", "pytest")) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_images_know_their_source(name):
    """What is published from an image says which code made it."""
    variables = dict(variable.split("=", 1) for variable in inspected(name)["Config"]["Env"])
    assert variables["SOURCE_REVISION"] == inspected(name)["Config"]["Labels"]["org.opencontainers.image.revision"]
    assert variables["SOURCE_REVISION"]


def test_serving_is_small():
    """At most 400 MB above its base."""
    base = plan().arguments.get("BASE", "python:3.11-slim-bookworm")
    assert inspected("serving")["Size"] - json.loads(docker("image", "inspect", base))[0]["Size"] < MAXIMUM_ABOVE_BASE


def test_a_second_build_has_the_same_content():
    """Every path with its rights, owner and content; only times differ."""
    first, second = f"{image('serving')}-first", f"{image('serving')}-second"
    for tag, options in ((first, ()), (second, ("--no-cache",))):
        command = plan().command("serving")
        command[command.index("--tag") + 1] = tag
        docker(*command[1:-1], "--quiet", *options, ".")
    contents = [content(tag) for tag in (first, second)]
    docker("rmi", first, second)
    assert len(contents[0]) > 10_000
    assert {path for path, _ in contents[0].items() ^ contents[1].items()} == set()


def content(tag):
    """Path -> rights, owner, kind, target and digest of everything in an image."""
    container = docker("create", tag)
    command = [plan().docker, "export", container]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as export,
        tarfile.open(fileobj=export.stdout, mode="r|") as archive,
    ):
        found = {entry.name: about(entry, archive) for entry in archive}
    docker("rm", container)
    return {path: value for path, value in found.items() if not {path, path.split("/")[0]} & MADE_BY_DOCKER}


def about(entry, archive):
    """What is compared of one entry."""
    file = archive.extractfile(entry) if entry.isreg() else None
    digest = hashlib.file_digest(file, "sha256").hexdigest() if file else ""
    return entry.mode, entry.uid, entry.gid, entry.type, entry.linkname, digest


def test_the_list_of_packages_is_that_of_the_image(tmp_path):
    """CycloneDX names the image, and each package that its interpreter finds, with versions."""
    assert sbom.main([str(tmp_path), "serving"]) == 0
    described = json.loads((tmp_path / "serving.cdx.json").read_text())
    assert described["metadata"]["component"]["bom-ref"] == image("serving")
    components = {f"{component['name']}=={component['version']}" for component in described["components"]}
    packages = (tmp_path / "serving.txt").read_text().split()
    assert components == {*packages, f"boneage=={plan().version}"}
    assert any(package.startswith("onnxruntime==") for package in packages)


def test_a_bundle_is_loaded_only_as_it_was_made(tmp_path, monkeypatch):
    """The archive brings the image back; a changed file stops everything before."""
    monkeypatch.setattr(bundle, "package_charts", lambda *_: None)  # needs helm, which the charts' tests have
    folder = tmp_path / "bundle"
    assert bundle.main([str(folder), "serving"]) == 0
    load = ["sh", str(folder / "load.sh")]
    environment = {"PATH": "/usr/bin:/bin", "LOAD": f"{plan().docker} load --input"}
    loaded = subprocess.run(load, env=environment, capture_output=True, text=True, check=True)
    assert f"Loaded image: {image('serving')}" in loaded.stdout
    with (folder / "images.txt").open("a") as file:
        file.write("\n")
    refused = subprocess.run(load, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "Loaded" not in refused.stdout
