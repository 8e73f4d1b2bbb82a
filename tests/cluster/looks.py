"""What the tests see of the running system, and the load that they put on it."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.cluster.authority import COMPONENTS, NAME, SERVING
from tests.cluster.kube import Object, is_ready
from tests.cluster.system import CLIENTS, System

SPREADING_TURNS: Final = 3
READ_METRICS: Final = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9100/metrics', timeout=5).read().decode())"
)
SHOW_CERTIFICATE: Final = (
    "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 50051), ca_certs='/authority/ca.crt'))"
)


def restarts(pod: Object) -> int:
    """How often containers of a pod were started anew."""
    statuses = [*pod["status"].get("containerStatuses", []), *pod["status"].get("initContainerStatuses", [])]
    return sum(status["restartCount"] for status in statuses)


def node_ready(system: System, node: str) -> bool:
    """Whether the cluster takes a node for ready."""
    return is_ready(system.cluster.get("node", node, "default"))


def replicas(system: System, component: str) -> int:
    """Ready pods of a component, none of them about to go."""
    return sum(is_ready(pod) for pod in system.cluster.pods(SERVING, component))


def scale(system: System, component: str, count: int) -> None:
    """Ask for so many pods."""
    system.cluster("scale", f"deployment/{NAME}-{component}", f"--replicas={count}", "-n", SERVING)


def handled(system: System, pod: Object) -> int:
    """Calls of the service itself that a pod has answered; health checks do not count."""
    told = system.exec(pod["metadata"]["name"], SERVING, "python", "-c", READ_METRICS)
    counts = re.findall(
        r'^grpc_server_handled_total\{.*grpc_service="boneage\.v1\.(?!ModelHost).*\} (\S+)$', told, re.MULTILINE
    )
    return round(sum(map(float, counts)))


def shown_certificate(system: System, component: str = "assessment") -> str:
    """The certificate that a service shows."""
    host = f"{NAME}-{component}.{SERVING}.svc.cluster.local"
    return system.exec("hands", CLIENTS, "python", "-c", SHOW_CERTIFICATE, host)


def spread(system: System) -> None:
    """Have a pod of every component on every node again: after a drain all are on one, which is then less preferred."""
    for _ in range(SPREADING_TURNS):
        for component in crowded(system):
            system.cluster("rollout", "restart", f"deployment/{NAME}-{component}", "-n", SERVING)
        system.ready()
        if not crowded(system):
            return
    raise AssertionError(f"not on every node: {crowded(system)}")


def crowded(system: System) -> dict[str, list[str]]:
    """Components that have no pod on some node, with the nodes where they have one."""
    nodes = set(system.cluster.nodes)
    return {name: found for name in COMPONENTS if set(found := system.nodes_of(name)) != nodes}


@contextmanager
def watching(system: System, least: dict[str, int]) -> Iterator[None]:
    """Note the fewest ready pods that each component ever had while the context lasts."""
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            pods = [pod for pod in system.cluster.items("pod", SERVING) if is_ready(pod)]
            for component in COMPONENTS:
                own = [p for p in pods if p["metadata"]["labels"].get("app.kubernetes.io/component") == component]
                least[component] = min(least.get(component, len(own)), len(own))
            done.wait(1.0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def loaded(system: System, component: str) -> Iterator[None]:
    """Keep the processors of a component's pods busy, with its own work, while the context lasts."""
    mounts: dict[str, Any] = {
        "/programs": {"configMap": {"name": "programs"}}, "/radiographs": {"configMap": {"name": "radiographs"}},
        "/authority": {"configMap": {"name": "authority"}},
    }  # fmt: skip
    address = f"{NAME}-assessment-instances.{SERVING}.svc.cluster.local:50051"
    command = ("python", "/programs/steady.py", address, "/authority/ca.crt", "/radiographs", "--busy")
    system.pod("busy", CLIENTS, *command, mounts=mounts, image="serving")
    try:
        yield
    finally:
        system.cluster("delete", "pod", "busy", "-n", CLIENTS)
