"""Who reaches whom, all of it, tried from inside the pods; and what the accounts may do."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, Final

import pytest
import yaml

from tests.cluster.kube import ROOT, Cluster, is_ready
from tests.cluster.system import CLIENTS, COMPONENTS, NAME, SERVING, STORE, TRAINING, System

ARROWS: Final[dict[str, Any]] = yaml.safe_load((ROOT / "charts/boneage/arrows.yaml").read_text())
PORTS: Final = {name: (8001, 8002) if name == "triton" else (50051, 9100) for name in COMPONENTS}
STANDING_IN: Final = {"preflight": SERVING, "test": SERVING, "job": TRAINING, "label-studio": TRAINING}
"""Ends whose pods come and go, or are not installed here: a pod with their labels stands in for each."""
OUTSIDE: Final = {"client": ("clients", CLIENTS), "operator": ("clients", CLIENTS), "prometheus": ("metrics", STORE)}
LISTEN: Final = "import http.server as s; s.ThreadingHTTPServer(('', 8080), s.SimpleHTTPRequestHandler).serve_forever()"
ANY: Final = 0
"""In place of a port: an arrow without one is for all of them."""
Reached = dict[tuple[str, str, int], str]


def allowed() -> set[tuple[str, str, int]]:
    """(from, to, port) of every arrow, groups spelt out."""
    groups = ARROWS["groups"]
    return {
        (start, end, arrow.get("port", ANY))
        for arrow in ARROWS["arrows"]
        for start, end in product(groups.get(arrow["from"], [arrow["from"]]), groups.get(arrow["to"], [arrow["to"]]))
    }


@pytest.fixture(scope="module")
def stand_ins(system: System) -> None:
    """A pod for each end that has none."""
    for name, namespace in STANDING_IN.items():
        chart = NAME if namespace == SERVING else "boneage-training"
        labels = {
            "app.kubernetes.io/name": chart,
            "app.kubernetes.io/instance": NAME,
            "app.kubernetes.io/component": name,
        }
        system.pod(f"as-{name}", namespace, "python", "-c", LISTEN, labels=labels)
    for name, namespace in sorted(set(OUTSIDE.values())):
        system.pod(f"as-{name}", namespace, "python", "-c", LISTEN, labels={"as": name})


def pods(system: System) -> dict[str, tuple[str, str, str]]:
    """Name, namespace and address of one pod of every end."""
    found = {}
    for component in COMPONENTS:
        pod = next(pod for pod in system.cluster.pods(SERVING, component) if is_ready(pod))
        found[component] = (pod["metadata"]["name"], SERVING, pod["status"]["podIP"])
    others = {name: (name, namespace) for name, namespace in STANDING_IN.items()} | OUTSIDE
    for end, (name, namespace) in others.items():
        pod = system.cluster.get("pod", f"as-{name}", namespace)
        found[end] = (f"as-{name}", namespace, pod["status"]["podIP"])
    return found


@contextmanager
def listening(system: System) -> Iterator[int]:
    """A server on the machine of the test, outside the cluster."""
    with socketserver.ThreadingTCPServer((system.outside, 0), socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def reached(system: System, outside_port: int) -> Reached:
    """What a connection from every end to every port of every other comes to."""
    ends = pods(system)
    store = system.cluster.get("pod", "s3", STORE)["status"]["podIP"]
    places = {("store", 9000): f"{store}:9000", ("outside", outside_port): f"{system.outside}:{outside_port}"}
    places |= {("kubernetes-api", 443): "{}:{}".format(*system.api), ("dns", 53): f"{system.dns}:53"}
    for name, ports in (
        PORTS | {"label-studio": (8080,), "preflight": (8080,), "test": (8080,), "job": (8080,)}
    ).items():
        places |= {(name, port): f"{ends[name][2]}:{port}" for port in ports}
    program = (ROOT / "tests/cluster/knock.py").read_text()
    found: Reached = {}
    for start, (pod, namespace, _) in ends.items():
        answer = system.cluster(
            "exec", "-i", pod, "-n", namespace, "--", "python", "-", *places.values(), stdin=program, timeout_s=90
        )
        told = json.loads(answer.output)
        found |= {(start, end, port): told[place] for (end, port), place in places.items() if end != start}
    return found


def expected(start: str, end: str, port: int) -> bool:
    """Whether the arrows let this pass; the tests' store listens on a port of its own."""
    same = [other for other, place in OUTSIDE.items() if place == OUTSIDE.get(start)] or [start]
    asked = 443 if end == "store" else port
    return any((other, end, which) in allowed() for other in same for which in (asked, ANY))


def test_what_the_arrows_say_passes_and_nothing_else(system: System, stand_ins: None) -> None:
    """Every pair of ends, on every port; a refusal counts since the same connection passes without the policies."""
    with listening(system) as outside_port:
        with_policies = reached(system, outside_port)
        with system.without_policies():
            without = reached(system, outside_port)
    free = {
        pair for pair in with_policies if pair[0] in OUTSIDE and pair[1] not in PORTS and pair[1] not in STANDING_IN
    }
    wrong = {
        pair: found
        for pair, found in with_policies.items()
        if pair not in free and (found == "open") != expected(*pair)
    }
    assert wrong == {}
    assert {pair: found for pair, found in without.items() if found != "open"} == {}
    assert sum(expected(*pair) for pair in with_policies) > 40
    print(f"{len(with_policies)} pairs, {sum(map(expected, *zip(*with_policies, strict=True)))} of them pass")


def test_accounts_may_do_nothing_but_what_they_need(cluster: Cluster, system: System) -> None:
    """No account may read secrets; the release service's may hold its lease, and the others may do nothing at all."""
    asked = [("get", "secrets"), ("list", "pods"), ("create", "pods"), ("get", "configmaps"), ("update", "leases")]
    may = set()
    for namespace in (SERVING, TRAINING):
        for account in cluster.items("serviceaccount", namespace):
            name = account["metadata"]["name"]
            who = f"--as=system:serviceaccount:{namespace}:{name}"
            for (verb, kind), where in product(asked, (SERVING, TRAINING)):
                done = cluster("auth", "can-i", verb, kind, "-n", where, who, check=False)
                if done.output.strip() == "yes":
                    may.add((name, verb, kind, where))
    assert may == {(f"{NAME}-release", "update", "leases", SERVING)}


def test_training_cannot_read_the_secrets_of_serving(system: System) -> None:
    """A pod with a training account has no token to show, and may not name secrets of another namespace."""
    accounts = [a["metadata"]["name"] for a in system.cluster.items("serviceaccount", TRAINING)]
    account = next(name for name in accounts if "transfer" in name or "job" in name or name != "default")
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
        "import boto3, sys; from botocore.exceptions import ClientError\n"
        "s3 = boto3.client('s3')\n"
        "s3.get_object(Bucket='models', Key='releases/current')\n"
        "try:\n    s3.put_object(Bucket='models', Key='probe', Body=b'x'); print('wrote')\n"
        "except ClientError as error:\n    print(error.response['Error']['Code'])\n"
    )
    found = {}
    for namespace, user in ((SERVING, "reader"), (SERVING, "writer"), (TRAINING, "writer")):
        name = f"store-{user}"
        labels = {
            "app.kubernetes.io/name": NAME,
            "app.kubernetes.io/instance": NAME,
            "app.kubernetes.io/component": "release",
        }
        if namespace == TRAINING:
            labels |= {"app.kubernetes.io/name": "boneage-training", "app.kubernetes.io/component": "job"}
        env = {"AWS_ENDPOINT_URL": f"http://s3.{STORE}.svc.cluster.local:9000", "AWS_DEFAULT_REGION": "us-east-1"}
        system.pod("writes", namespace, "sleep", "600", labels=labels, env=env, secret=name)
        found[namespace, user] = system.exec("writes", namespace, "python", "-c", program).strip()
        system.cluster("delete", "pod", "writes", "-n", namespace)
    assert found == {(SERVING, "reader"): "AccessDenied", (SERVING, "writer"): "wrote", (TRAINING, "writer"): "wrote"}
    sync = next(c for c in system.cluster.pods(SERVING, "cam")[0]["spec"]["initContainers"] if c["name"] == "sync")
    named = json.dumps(sync)
    assert "store-reader" in named
    assert "store-writer" not in named
