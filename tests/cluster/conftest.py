"""The cluster that these tests run on, and the system that they install there once.

`make cluster-test` wants in the environment: KUBECONFIG, a cluster of two nodes; CLUSTER_LOAD, a command that puts
local images on its nodes (`CLUSTER_LOAD IMAGE...`, with NODES="NAME ..." on those alone); CLUSTER_NODE, one that loses
a node (`CLUSTER_NODE cut|kill|restore NODE`). What needs one that is not there is skipped by name.
"""

import os
import shlex
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest

from tests.cluster.authority import Authority
from tests.cluster.kube import ROOT, Cluster, Done, run
from tests.cluster.system import System
from tests.conftest import radiographs_folder

IMAGES: Final = ("serving", "release", "triton-cpu", "tests")
RADIOGRAPHS: Final = 4
GREATEST_BYTES: Final = 150_000


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Says how long a phase of the tests took."""
    began = time.monotonic()
    yield
    print(f"\ncluster: {name}: {time.monotonic() - began:.0f} s", flush=True)


def _program(name: str, variable: str) -> str:
    own = ROOT / ".helm" / name
    found = os.environ.get(variable) or (str(own) if own.exists() else shutil.which(name))
    if not found:
        pytest.skip(f"there is no {name}; `make helm` installs it")
    return found


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster of KUBECONFIG."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster; any with two nodes will do, for example one of kind")
    kubectl = _program("kubectl", "KUBECTL")
    nodes = run(kubectl, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").output.split()
    return Cluster(kubectl, _program("helm", "HELM"), nodes)


@pytest.fixture(scope="session", autouse=True)
def loads(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Done]]]:
    """Images on their way to the nodes, as far as tests want them; those that want none use the minutes."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    loader = shlex.split(os.environ.get("CLUSTER_LOAD", ""))
    names = [f"boneage/{image}:{image_tag()}" for image in (*IMAGES, "training")]
    commands = {
        "images": [*loader, *names[:-1]],
        "training_image": ["env", f"NODES={cluster.nodes[0]}", *loader, names[-1]],
    }
    pool = ThreadPoolExecutor(1)
    try:
        yield {
            name: pool.submit(run, *command, timeout_s=900)
            for name, command in commands.items()
            if name in wanted and loader
        }
    finally:
        pool.shutdown(cancel_futures=True)


def image_tag() -> str:
    """Tag of the images: the project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


@pytest.fixture(scope="session")
def images(loads: dict[str, Future[Done]]) -> str:
    """Tag of the images, once they are on the nodes."""
    if "images" not in loads:
        pytest.skip("CLUSTER_LOAD names no command that puts the images of `make images` on the nodes")
    with phase("wait for the images"):
        loads["images"].result()
    return image_tag()


@pytest.fixture(scope="session")
def training_image(images: str, loads: dict[str, Future[Done]], cluster: Cluster) -> str:
    """Node that has the training image: one alone, since it is large."""
    with phase("wait for the training image"):
        loads["training_image"].result()
    return cluster.nodes[0]


@pytest.fixture(scope="session")
def system(cluster: Cluster, images: str, tmp_path_factory: pytest.TempPathFactory) -> System:
    """Namespaces, certificates, the store and a pod for the command line; the charts are installed by the tests."""
    folder = radiographs_folder() / "larger-radiographs" / "half"
    small = [path for path in sorted(folder.glob("*.png")) if path.stat().st_size < GREATEST_BYTES][:RADIOGRAPHS]
    made = System(cluster, Authority(tmp_path_factory.mktemp("authority")), small, images)
    made.clean()
    made.prepare()
    made.start_store(cluster.nodes[0])
    made.start_hands(cluster.nodes[0])
    return made


@pytest.fixture(scope="session")
def serving(system: System) -> System:
    """The serving chart with its store on S3 and its models on Triton."""
    with phase("install"):
        system.install("s3", "triton")
        system.ready()
    return system


@pytest.fixture(scope="session")
def node_loss() -> Callable[[str, str], object]:
    """`node_loss("cut" | "kill" | "restore", NODE)`."""
    if not os.environ.get("CLUSTER_NODE"):
        pytest.skip("CLUSTER_NODE names no command that loses a node: CLUSTER_NODE cut|kill|restore NODE")
    return lambda what, node: run(*shlex.split(os.environ["CLUSTER_NODE"]), what, node, timeout_s=180)
