"""Whether a pod would find a node, as a real scheduler says it; the pod that was tried is never left."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator

import pytest

from services.cli.doctor_schedulable import check_schedulable
from tests.cluster.kube import Cluster
from tests.waiting import until

SPACE = "t-doctor"
GPU = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def space(cluster: Cluster) -> Iterator[str]:
    """A namespace of this module's own."""
    cluster.namespace(SPACE, restricted=False)
    yield SPACE
    cluster("delete", "namespace", SPACE, "--wait=false")


@pytest.fixture
def template(tmp_path, space):
    """Writes the template of a pod."""

    def write(resources=None, **spec):
        container = {"name": "probe", "image": "boneage/serving", "imagePullPolicy": "Never", "command": ["true"]}
        limits = {"limits": resources} if resources else {}
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "probe-", "namespace": space},
            "spec": {"containers": [{**container, "resources": limits}], "restartPolicy": "Never", **spec},
        }  # fmt: skip
        (tmp_path / "pod.yaml").write_text(json.dumps(pod))
        return tmp_path / "pod.yaml"

    return write


@pytest.fixture(scope="module")
def gpu_node(cluster: Cluster) -> None:
    """A node that says it has a GPU."""
    nodes = json.loads(cluster("get", "nodes", "-o", "json").output)["items"]
    if not any(GPU in node["status"]["allocatable"] for node in nodes):
        pytest.skip(f"no node has {GPU}; let one say so, by its device plugin or in its status")


def pods(cluster: Cluster) -> list[str]:
    """Pods that are there, also those about to go."""
    return [pod["metadata"]["name"] for pod in cluster.items("pod", SPACE)]


async def test_a_pod_that_fits_is_said_to_and_is_gone(cluster, template, gpu_node):
    """With a GPU."""
    finding = await check_schedulable(template({GPU: "1"}))
    assert (finding.detail, finding.fault) == ("a node takes it", False)
    await until(lambda: pods(cluster) == [])


@pytest.mark.parametrize(
    ("resources", "spec", "said", "fix"),
    [
        ({GPU: "99"}, {}, f"Insufficient {GPU}", "device plugin"),
        (None, {"nodeSelector": {"no": "such"}}, "affinity/selector", "label the nodes"),
        ({GPU: "1"}, {"priorityClassName": "no-such"}, "no PriorityClass with name no-such", "look at the cluster"),
    ],
)
async def test_a_pod_that_does_not_fit_says_why_and_what_to_do(cluster, template, resources, spec, said, fix):
    """In the scheduler's own words, or the API server's; the CPU is always a way."""
    finding = await check_schedulable(template(resources, **spec))
    assert said in finding.detail
    assert fix in finding.fix
    assert "inference.runtime=onnxruntime" in finding.fix
    await until(lambda: pods(cluster) == [])


async def test_a_doctor_that_is_stopped_leaves_no_pod(cluster, template):
    """As helm does it after its time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "doctor", "--cluster", "--schedulable", template({GPU: "99"}),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await until(lambda: pods(cluster) != [])
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await process.wait() == 128 + signal.SIGTERM
    await until(lambda: pods(cluster) == [])
