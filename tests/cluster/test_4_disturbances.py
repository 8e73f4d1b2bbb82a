"""What a cluster does to its pods, while a client never rests: nothing of it costs a call."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.authority import COMPONENTS, SERVING
from tests.cluster.conftest import phase
from tests.cluster.kube import is_ready
from tests.cluster.looks import handled, loaded, node_ready, replicas, scale, spread, watching
from tests.cluster.system import CLIENTS, System, until

CLEAN_S = 60.0
NodeLoss = Callable[[str, str], object]


@pytest.fixture(scope="module")
def steady(serving: System) -> Iterator[System]:
    """The client that never rests, on the node that stays."""
    serving.start_client(serving.cluster.nodes[0])
    yield serving
    serving.cluster("delete", "pod", "steady", "-n", CLIENTS)


def report(what: str, system: System, since: float, event: float) -> None:
    """Say what the calls came to, with and without second attempts."""
    for kind in ("policy", "raw"):
        calls = system.calls(since, kind)
        failed = [call for call in calls if call.failed]
        slowest = max((call.seconds for call in calls), default=0.0)
        print(
            f"cluster: {what}: {kind}: {len(calls)} calls, {len(failed)} failed, slowest {slowest:.1f} s, "
            f"clean {max(last_failure(system, since, kind) - event, 0):.0f} s after the event "
            f"{[call.failed for call in failed][:3]}",
            flush=True,
        )


def last_failure(system: System, since: float, kind: str) -> float:
    """When the last call that failed had ended; `since` where none did."""
    return max((call.at + call.seconds for call in system.calls(since, kind) if call.failed), default=since)


def all_clean(what: str, system: System, since: float, event: float) -> None:
    """No call failed that was tried as the client library tries it, and single attempts are clean a minute later.

    `event` is when it happened, or for what takes its time when it was over: from a minute after that on a whole
    minute passes without a failure.
    """
    until(
        lambda: time.time() - max(since, last_failure(system, since, "raw")) >= CLEAN_S,
        timeout_s=4 * CLEAN_S, what="a minute without a failure",
    )  # fmt: skip
    seen = len(system.calls(since))
    until(lambda: len(system.calls(since)) > seen, timeout_s=60, what="another call")
    report(what, system, since, event)
    assert [call for call in system.calls(since) if call.failed] == []
    assert last_failure(system, since, "raw") - event <= CLEAN_S


def test_rolling_upgrade(steady: System) -> None:
    """Every pod is replaced, one after another."""
    since = time.time()
    with phase("rolling upgrade"):
        steady.install("s3", "triton", options=("--set-string=defaults.podAnnotations.turn=second",))
        steady.ready()
    all_clean("rolling upgrade", steady, since, time.time())


def test_drain_of_a_node(steady: System) -> None:
    """A drain waits for the disruption budgets: never is more than one pod of a component away."""
    node, since = steady.cluster.nodes[1], time.time()
    least: dict[str, int] = {}
    with phase("drain"):
        steady.cluster("cordon", node)
        drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        with watching(steady, least):
            steady.cluster(*drain, timeout_s=330)
        steady.cluster("uncordon", node)
        steady.ready()
    all_clean("drain", steady, since, time.time())
    assert set(least) >= set(COMPONENTS)
    assert min(least.values()) >= 1


def whole_on(system: System, node: str) -> bool:
    """Whether each component has all its pods ready on one node."""
    return all(system.nodes_of(component) == [node, node] for component in COMPONENTS)


@pytest.mark.parametrize("how", ["cut", "kill"])
def test_a_node_that_is_lost(steady: System, node_loss: NodeLoss, how: str) -> None:
    """Cut off from the network, or its kubelet, containerd and pods killed: the other node carries all."""
    spread(steady)
    node, since = steady.cluster.nodes[1], time.time()
    with phase(f"node lost: {how}"):
        node_loss(how, node)
        try:
            until(lambda: not node_ready(steady, node), timeout_s=90, what="the loss noticed")
            until(lambda: whole_on(steady, steady.cluster.nodes[0]), timeout_s=240, what="all on the other node")
        finally:
            node_loss("restore", node)
        until(lambda: node_ready(steady, node), timeout_s=120, what="the node back")
        steady.ready()
    all_clean(f"node lost ({how})", steady, since, since)


def test_triton_killed(steady: System) -> None:
    """One of two Tritons is killed without a word."""
    steady.ready()
    pod, since = steady.cluster.pods(SERVING, "triton")[0]["metadata"]["name"], time.time()
    with phase("triton killed"):
        steady.cluster("delete", "pod", pod, "-n", SERVING, "--grace-period=0", "--force", "--wait=false")
        until(lambda: len(steady.calls(since)) > 8, timeout_s=90, what="calls meanwhile")
        steady.ready("triton")
    all_clean("triton killed", steady, since, since)


def test_scaling_by_hand(steady: System) -> None:
    """From 2 to 3 and down to 1 and back: new pods get work within half a minute of being ready."""
    since = time.time()
    with phase("scaling"):
        scale(steady, "regression", 3)
        steady.ready("regression")
        newest = max(steady.cluster.pods(SERVING, "regression"), key=lambda pod: pod["metadata"]["creationTimestamp"])
        began = time.monotonic()
        until(lambda: handled(steady, newest) > 0, timeout_s=30, what="load on the new pod", every_s=0.5)
        print(f"cluster: load on a new pod after {time.monotonic() - began:.1f} s", flush=True)
        scale(steady, "regression", 1)
        until(lambda: len(steady.cluster.pods(SERVING, "regression")) == 1, timeout_s=90, what="one pod")
        steady.ready("regression")
        scale(steady, "regression", 2)
        steady.ready("regression")
    all_clean("scaling", steady, since, time.time())


def test_scaling_by_load(steady: System) -> None:
    """The HorizontalPodAutoscaler adds pods under load and takes them away after it."""
    since = time.time()
    hpa = ("s3", "triton", "autoscaling")
    with phase("autoscaling"):
        steady.install(*hpa)
        until(lambda: replicas(steady, "cam") == 1, timeout_s=180, what="scaled down to the least")
        with loaded(steady, "cam"):
            until(lambda: replicas(steady, "cam") == 3, timeout_s=180, what="scaled up")
            steady.ready("cam")
        until(lambda: replicas(steady, "cam") == 1, timeout_s=240, what="scaled down again")
    all_clean("autoscaling", steady, since, time.time())


def test_graphics_cards_are_asked_for(steady: System) -> None:
    """The GPU flavour's Triton goes where the node says that it has GPUs; a drain of the other does not touch it."""
    since = time.time()
    with phase("gpu flavour"):
        steady.install("s3", "triton", "gpu")
        steady.ready("triton")
        gpus = [
            n
            for n in steady.cluster.nodes
            if steady.cluster.get("node", n, "default")["status"]["capacity"].get("nvidia.com/gpu")
        ]
        triton = [pod for pod in steady.cluster.pods(SERVING, "triton") if is_ready(pod)]
        assert {pod["spec"]["nodeName"] for pod in triton} == set(gpus)
        names = {pod["metadata"]["name"] for pod in triton}
        without = next(node for node in steady.cluster.nodes if node not in gpus)
        steady.cluster(
            "drain", without, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s", timeout_s=330
        )
        steady.cluster("uncordon", without)
        assert {pod["metadata"]["name"] for pod in steady.cluster.pods(SERVING, "triton")} == names
        steady.ready()
    all_clean("gpu flavour", steady, since, time.time())
