"""Who reaches whom, all of it, tried from inside the pods; and what the accounts may do."""

import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.authority import COMPONENTS, NAME, SERVING
from tests.cluster.kube import ROOT, Cluster, is_ready, run
from tests.cluster.system import CHART, CLIENTS, HERE, STORE, TRAINING, TRAINING_CHART, System

ARROWS: Final[dict[str, Any]] = yaml.safe_load((CHART / "arrows.yaml").read_text())
PORTS: Final = {name: (8001, 8002) if name == "triton" else (50051, 9100) for name in COMPONENTS}
TRAINING_NAME: Final = "training"
OF_SERVING: Final = {"app.kubernetes.io/name": "boneage", "app.kubernetes.io/instance": NAME}
OF_TRAINING: Final = {"app.kubernetes.io/name": "boneage-training", "app.kubernetes.io/instance": TRAINING_NAME}
OF_JOBS: Final = OF_TRAINING | {"app.kubernetes.io/component": "transfer", "boneage/role": "job"}
STAND_INS: Final[Mapping[str, tuple[str, Mapping[str, str], int]]] = {
    "preflight": (SERVING, OF_SERVING | {"app.kubernetes.io/component": "preflight"}, 1),
    "test": (SERVING, OF_SERVING | {"app.kubernetes.io/component": "test"}, 1),
    "job": (TRAINING, OF_JOBS, 2),
    "job-nodes": (TRAINING, OF_JOBS | {"boneage/nodes": "several"}, 2),
    "label-studio": (TRAINING, OF_TRAINING | {"app.kubernetes.io/component": "label-studio"}, 1),
    "clients": (CLIENTS, {"as": "clients"}, 1),
    "metrics": (STORE, {"as": "metrics"}, 1),
}
"""Ends whose pods come and go, or are not installed here: so many pods with their labels stand in for each."""
ROLES: Final = {"clients": ("client", "operator", "annotator"), "metrics": ("prometheus",), "job-nodes": ("job",)}
"""Which other ends of arrows a pod is too."""
FREE: Final = ("clients", "metrics")
"""Pods of the tests, which no policy keeps from reaching what has none itself."""
LISTEN: Final = "import http.server as s; s.ThreadingHTTPServer(('', 8080), s.SimpleHTTPRequestHandler).serve_forever()"
ANY: Final = 0
"""In place of a port: an arrow without one is for all of them."""
Pair = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class End:
    """A pod, to knock from or at."""

    pod: str
    namespace: str
    address: str


@cache
def allowed() -> frozenset[Pair]:
    """(from, to, port) of every arrow, groups spelt out."""
    groups = ARROWS["groups"]
    return frozenset(
        (start, end, arrow.get("port", ANY))
        for arrow in ARROWS["arrows"]
        for start, end in product(groups.get(arrow["from"], [arrow["from"]]), groups.get(arrow["to"], [arrow["to"]]))
    )


def expected(start: str, end: str, port: int) -> bool:
    """Whether the arrows let this pass; the tests' store listens on a port of its own."""
    asked = 443 if end == "store" else port
    starts, ends = ((name, *ROLES.get(name, ())) for name in (start, end))
    return any((one, other, which) in allowed() for one in starts for other in ends for which in (asked, ANY))


@pytest.fixture(scope="module", autouse=True)
def charts(serving: System) -> None:
    """Both charts are installed."""
    values, options = [HERE / "values/training.yaml"], ("--set=data.existingClaim=",)
    done = serving.cluster.install(TRAINING_NAME, TRAINING_CHART, TRAINING, *options, values=values)
    assert not done.code, done.said


@pytest.fixture(scope="module")
def ends(system: System, charts: None) -> Iterator[dict[str, list[End]]]:
    """Pods of every end, by its name, with the policies of all of them: also of hooks, and of what is not installed."""
    hidden = (
        (CHART, NAME, SERVING, ("serving", "s3", "triton"), ()),
        (TRAINING_CHART, TRAINING_NAME, TRAINING, ("training",),
         ("--set=labelStudio.enabled=true", "--set=labelStudio.image.repository=none", "--set=jobs.transfer.nodes=2")),
    )  # fmt: skip
    for chart, name, namespace, cases, options in hidden:
        apply_policies(system, chart, name, namespace, cases, options)
    found: dict[str, list[End]] = {}
    for name, (namespace, labels, count) in STAND_INS.items():
        for number in range(count):
            pod = f"as-{name}-{number}"
            system.pod(pod, namespace, "python", "-c", LISTEN, labels=dict(labels))
            found.setdefault(name, []).append(_end(system.cluster.get("pod", pod, namespace)))
    for component in COMPONENTS:
        found[component] = [_end(pod) for pod in system.cluster.pods(SERVING, component) if is_ready(pod)]
    yield found
    for name, (namespace, _, count) in STAND_INS.items():
        system.cluster("delete", "pod", *(f"as-{name}-{number}" for number in range(count)), "-n", namespace)


def _end(pod: dict[str, Any]) -> End:
    return End(pod["metadata"]["name"], pod["metadata"]["namespace"], pod["status"]["podIP"])


def apply_policies(
    system: System, chart: Path, name: str, namespace: str, cases: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Have a chart's policies there as it renders them, those of its hooks too."""
    values = [f"--values={HERE / 'values' / case}.yaml" for case in cases]
    where = ("--namespace", namespace, "--show-only", "templates/policies.yaml")
    api = system.api_peer() if chart == CHART else ()
    made = run(system.cluster.helm, "template", name, chart, *where, *values, *api, *options)
    system.cluster("apply", "-n", namespace, "--server-side", "--force-conflicts", "-f", "-", stdin=made.output)


@contextmanager
def listening(system: System) -> Iterator[int]:
    """A server on the machine of the test, outside the cluster."""
    with socketserver.ThreadingTCPServer((system.outside, 0), socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def reached(system: System, ends: Mapping[str, list[End]], outside_port: int) -> dict[Pair, str]:
    """What a connection from a pod of every end to every port of another pod comes to."""
    store = system.cluster.get("pod", "s3", STORE)["status"]["podIP"]
    outside = {("store", 9000): f"{store}:9000", ("outside", outside_port): f"{system.outside}:{outside_port}"}
    outside |= {("kubernetes-api", 443): "{}:{}".format(*system.api), ("dns", 53): f"{system.dns}:53"}
    program = (ROOT / "tests/cluster/knock.py").read_text()
    found: dict[Pair, str] = {}
    for start, pods in ends.items():
        own = pods[0]
        places = outside | {
            (name, port): f"{others[-1].address}:{port}"
            for name, others in ends.items()
            for port in PORTS.get(name, (8080,))
            if others[-1] != own
        }
        command = ("exec", "-i", own.pod, "-n", own.namespace, "--", "python", "-", *places.values())
        told = json.loads(system.cluster(*command, stdin=program, timeout_s=90).output)
        found |= {(start, end, port): told[place] for (end, port), place in places.items()}
    return found


def test_what_the_arrows_say_passes_and_nothing_else(system: System, ends: Mapping[str, list[End]]) -> None:
    """Every pair of ends, on every port; a refusal counts since the same connection passes without the policies."""
    with listening(system) as outside_port:
        found = reached(system, ends, outside_port)
        with system.without_policies():
            without = reached(system, ends, outside_port)
    ruled = {pair: what for pair, what in found.items() if pair[0] not in FREE or pair[1] in set(ends) - set(FREE)}
    passing = sum(expected(*pair) for pair in ruled)
    print(f"cluster: {len(ruled)} pairs with a rule, {passing} of them pass")
    assert {pair: what for pair, what in ruled.items() if (what == "open") != expected(*pair)} == {}
    assert {pair: what for pair, what in without.items() if what != "open"} == {}
    assert passing > 50


def test_accounts_may_do_nothing_but_what_they_need(cluster: Cluster, system: System) -> None:
    """The release service's account may hold its one Lease; all others may do nothing but ask what they may do."""
    may = {}
    for namespace, where in product((SERVING, TRAINING), repeat=2):
        for account in cluster.items("serviceaccount", namespace):
            who = f"system:serviceaccount:{namespace}:{account['metadata']['name']}"
            told = cluster("auth", "can-i", "--list", "--no-headers", "-n", where, f"--as={who}").output
            lines = [line for line in told.splitlines() if re.match(r"[a-z]", line) and not line.startswith("self")]
            if lines:
                may[who, where] = sorted(" ".join(line.split()) for line in lines)
    lease = f"leases.coordination.k8s.io [] [{NAME}-release] [get update]"
    assert may == {
        (f"system:serviceaccount:{SERVING}:{NAME}-release", SERVING): [
            "leases.coordination.k8s.io [] [] [create]",
            lease,
        ]
    }


def test_training_cannot_read_the_secrets_of_serving(system: System) -> None:
    """A pod with a job's account has no token to show, and the account may not read them where it has one."""
    account = next(
        found["metadata"]["name"]
        for found in system.cluster.items("serviceaccount", TRAINING)
        if found["metadata"]["name"] != "default"
    )
    system.pod("thief", TRAINING, "sleep", "600", account=account)
    told = system.exec("thief", TRAINING, "ls", "/var/run/secrets/kubernetes.io", check=False)
    assert "No such file" in told
    done = system.cluster(
        "get", "secrets", "-n", SERVING, f"--as=system:serviceaccount:{TRAINING}:{account}", check=False
    )
    assert "forbidden" in done.said


def test_only_the_release_service_can_write_to_the_store(system: System) -> None:
    """The sync's credentials read and cannot write; the release service's and a job's can."""
    program = (
        "import boto3; from botocore.exceptions import ClientError\n"
        "s3 = boto3.client('s3')\n"
        "s3.get_object(Bucket='models', Key='releases/current')\n"
        "try:\n    s3.put_object(Bucket='models', Key='probe', Body=b'x'); print('wrote')\n"
        "except ClientError as error:\n    print(error.response['Error']['Code'])\n"
    )
    release = OF_SERVING | {"app.kubernetes.io/component": "release"}
    found = {}
    for namespace, labels, user in (
        (SERVING, release, "reader"),
        (SERVING, release, "writer"),
        (TRAINING, OF_JOBS, "writer"),
    ):
        env = {"AWS_ENDPOINT_URL": f"http://s3.{STORE}.svc.cluster.local:9000", "AWS_DEFAULT_REGION": "us-east-1"}
        system.pod("writes", namespace, "sleep", "600", labels=dict(labels), env=env, secret=f"store-{user}")
        found[namespace, user] = system.exec("writes", namespace, "python", "-c", program).strip()
        system.cluster("delete", "pod", "writes", "-n", namespace)
    assert found == {(SERVING, "reader"): "AccessDenied", (SERVING, "writer"): "wrote", (TRAINING, "writer"): "wrote"}
    for component in ("cam", "triton"):
        spec = system.cluster.pods(SERVING, component)[0]["spec"]
        sync = json.dumps(next(c for c in spec["initContainers"] if c["name"] == "sync"))
        assert "store-reader" in sync
        assert "store-writer" not in json.dumps(spec)
