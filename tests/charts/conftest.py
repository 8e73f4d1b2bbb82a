"""What the tests of the charts share: helm, and what it makes of the examples."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart_examples import cases, rendered

ROOT = Path(__file__).parents[2]
CHARTS = (ROOT / "charts/boneage", ROOT / "charts/boneage-training")
EXAMPLES = [(chart, case) for chart in CHARTS for case in cases(chart)]
Object = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]


def example_id(value: Path) -> str:
    """What an example is called in the name of a test."""
    return value.name


@pytest.fixture(scope="session")
def helm_program() -> str:
    """Where helm is; the test is skipped where it is not."""
    own = ROOT / ".helm" / "helm"
    found = os.environ.get("HELM") or (str(own) if own.exists() else shutil.which("helm"))
    if not found:
        pytest.skip("there is no helm; `make helm` installs it")
    return found


@pytest.fixture(scope="session")
def helm(helm_program: str) -> Helm:
    """`helm(ARGUMENT...)` runs it, far from any cluster."""
    environment = {**os.environ, "KUBECONFIG": "/nowhere"}
    return lambda *arguments: subprocess.run(
        [helm_program, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )


@pytest.fixture(scope="session")
def render(helm_program: str) -> Callable[[Path, Path], dict[str, str]]:
    """`render(CHART, CASE)`: the files that helm makes of an example, each example once."""
    return cache(lambda chart, case: dict(rendered(helm_program, chart, case)))


@pytest.fixture(scope="session", params=EXAMPLES, ids=lambda example: f"{example[0].name}-{example[1].name}")
def objects(request: pytest.FixtureRequest, render: Callable[[Path, Path], dict[str, str]]) -> list[Object]:
    """All objects of an example."""
    return list(parsed(*render(*request.param).values()))


def parsed(*texts: str) -> Iterator[Object]:
    """The objects in YAML."""
    for text in texts:
        yield from (document for document in yaml.load_all(text, yaml.CSafeLoader) if document)


def pod_of(item: Object) -> Object | None:
    """The pod that an object makes; none where it makes none."""
    if item["kind"] == "Pod":
        return item["spec"]
    spec = item.get("spec", {})
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]["spec"] if "template" in spec else None


def containers_of(pod: Object) -> list[Object]:
    """All containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]
