"""Builds the images: `python -m deploy.images [NAME...]`, by the environment that docs/images.md describes."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path(__file__).parents[1]
NAMES: Final = ("serving", "release", "tests", "triton-cpu", "training")
SHIPPED: Final = ("serving", "release", "training")
# What a build is told where the environment says it; otherwise the Dockerfile's own defaults hold.
PASSED_ON: Final = ("BASE", "RUNTIME", "TORCH")
# What the images are made of: a revision is only said of a tree that has no other changes there.
SOURCES: Final = ("constraints.txt", "pyproject.toml", "services", "training", "protos/gen", "deploy", "tests")


class UsageError(Exception):
    """What was asked for cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which source is built, by which docker, to which names."""

    version: str
    revision: str
    epoch: str
    docker: str = "docker"
    registry: str = ""
    options: Sequence[str] = ("--network=host",)
    arguments: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The plan that the environment, the project and its history make."""
        registry = environment.get("REGISTRY", "")
        return cls(
            version=environment.get("TAG") or project_version(),
            revision=environment.get("SOURCE_REVISION") or revision(),
            epoch=environment.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"),
            docker=environment.get("DOCKER") or "docker",
            registry=f"{registry.rstrip('/')}/" if registry else "",
            options=environment.get("DOCKER_BUILD_OPTIONS", "--network=host").split(),
            arguments={name: environment[name] for name in PASSED_ON if environment.get(name)},
        )

    def tag(self, name: str) -> str:
        """The full name of an image."""
        return f"{self.registry}boneage/{name}:{self.version}"

    @property
    def base(self) -> list[str]:
        """The base image, for whatever is built beside the images."""
        return ["--build-arg", f"BASE={self.arguments['BASE']}"] if "BASE" in self.arguments else []

    def command(self, name: str) -> list[str]:
        """What builds an image."""
        told = {
            "VERSION": self.version, "SOURCE_REVISION": self.revision, "SOURCE_DATE_EPOCH": self.epoch, **self.arguments
        }  # fmt: skip
        build_arguments = [word for key, value in told.items() for word in ("--build-arg", f"{key}={value}")]
        return [
            self.docker, "build", *self.options, "--file", "deploy/Dockerfile", "--target", name,
            "--tag", self.tag(name), *build_arguments, ".",
        ]  # fmt: skip


def project_version() -> str:
    """The version of the project, which is that of its images."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def revision() -> str:
    """The commit that is built, with `-dirty` where the tree holds something else."""
    changed = git("status", "--porcelain", "--", *SOURCES)
    return git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def git(*arguments: str) -> str:
    """What git answers. Raises UsageError where there is no history to ask."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError("no git history here: set SOURCE_REVISION and SOURCE_DATE_EPOCH") from error
    return done.stdout.strip()


def chosen(names: Sequence[str], default: Sequence[str] = NAMES) -> Iterator[str]:
    """The images that are wanted, in the order that builds fastest. Raises UsageError for one that there is none of."""
    if unknown := [name for name in names if name not in NAMES]:
        raise UsageError(f"no image {', '.join(unknown)}; there are {', '.join(NAMES)}")
    yield from (name for name in NAMES if name in (names or default))


def run(*command: str) -> None:
    """Run a command in the project's folder. Raises CalledProcessError where it fails, having said why."""
    subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True)


def main(names: Sequence[str]) -> int:
    """Build one image after the other; layers that two have in common are built once."""
    plan = Plan.read()
    for name in chosen(names):
        print(f"building {plan.tag(name)} from {plan.revision}", flush=True)
        run(*plan.command(name))
    return 0


def reported(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """The exit code of a command, with what ails it as one line."""
    try:
        return command(arguments)
    except (UsageError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(reported(main, sys.argv[1:]))
