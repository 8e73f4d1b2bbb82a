"""The system on a cluster as the tests install it: namespaces, certificates, store, clients, the serving chart."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.cluster.authority import NAME, SERVING, Authority
from tests.cluster.kube import ROOT, Cluster, Done, Object, is_ready, run

HERE: Final = Path(__file__).parent
TRAINING: Final = "boneage-test-training"
STORE: Final = "boneage-test-store"
CLIENTS: Final = "boneage-test-clients"
API: Final = '{"peers": [{"ipBlock": {"cidr": "%s/32"}}], "ports": [%d]}'
TOKEN: Final = "the-token-of-the-tests"
RIGHTS: Final = ("promote", "canary", "shadow", "rollback", "collect")
CHART: Final = ROOT / "charts/boneage"
TRAINING_CHART: Final = ROOT / "charts/boneage-training"
RESTRICTED: Final[Object] = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the client that never rests; `kind` is `policy` or `raw`."""

    kind: str
    at: float
    seconds: float
    release: str = ""
    failed: str = ""


def until(condition: Callable[[], Any], *, timeout_s: float, what: str, every_s: float = 2.0) -> Any:
    """What `condition` gives once it gives anything. Raises AssertionError with `what` where it never does."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(every_s)  # what is waited for tells nobody here
    return found


@dataclass(slots=True)
class System:
    """What the tests ask of the installation. `radiographs` are real ones, under 150 KB each."""

    cluster: Cluster
    authority: Authority
    radiographs: Sequence[Path]
    image_tag: str
    registry: str = ""

    def image(self, name: str) -> str:
        """One of the images."""
        return f"{self.registry}boneage/{name}:{self.image_tag}"

    def prepare(self) -> None:
        """Namespaces, certificates, callers, and the radiographs for clients."""
        for namespace in (SERVING, TRAINING, CLIENTS, STORE):
            self.cluster.namespace(namespace)
        self.rotate_certificate()
        digest = sha256(TOKEN.encode()).hexdigest()
        callers = {"callers": [{"name": "operations", "token_sha256": digest, "rights": list(RIGHTS)}]}
        self.cluster.secret(SERVING, "boneage-callers", {"callers.json": json.dumps(callers)})
        self.cluster.secret(CLIENTS, "token", {"token": TOKEN})
        self.cluster.config_map(CLIENTS, "programs", HERE / "steady.py", HERE / "knock.py")
        self.cluster.config_map(CLIENTS, "radiographs", *self.radiographs)

    def rotate_certificate(self) -> None:
        """A new certificate of the same authority for all services."""
        made = self.authority.make()
        self.cluster.secret(SERVING, "boneage-tls", made, "kubernetes.io/tls")
        self.cluster.config_map(CLIENTS, "authority", **{"ca.crt": made["ca.crt"]})
        # A node looks at a pod's Secrets once a minute or so, and whenever the pod changes.
        self.cluster(
            "annotate", "pods", "--all", f"boneage-test/certificate={time.time()}", "--overwrite", "-n", SERVING
        )

    def clean(self) -> None:
        """Nothing is left of a run before."""
        for namespace in (SERVING, TRAINING, CLIENTS, STORE):
            self.cluster("delete", "namespace", namespace, "--ignore-not-found", "--wait=true", timeout_s=240)

    def helm(self, action: str, *arguments: str, timeout_s: float = 300, check: bool = True) -> Done:
        """Another action of helm in the serving namespace."""
        return run(self.cluster.helm, action, *arguments, "-n", SERVING, timeout_s=timeout_s, check=check)

    def uninstall(self) -> None:
        """The chart and its data go; the pod of `helm test` stays for its log, and holds the volume."""
        self.helm("uninstall", NAME, "--wait", "--ignore-not-found")
        self.cluster("delete", "pod,pvc", "--all", "-n", SERVING)

    # -- pods of the tests ---------------------------------------------------------------------------------------------

    def pod(
        self,
        name: str,
        namespace: str,
        *command: str,
        image: str = "tests",
        node: str = "",
        labels: Object | None = None,
        mounts: Object | None = None,
        env: dict[str, str] | None = None,
        secret: str = "",
        account: str = "",
    ) -> None:
        """A pod of one container that satisfies "restricted"; `mounts` are volumes by the path where they are."""
        volumes = [{"name": f"v{i}", **source} for i, source in enumerate((mounts or {}).values())]
        places = [{"name": f"v{i}", "mountPath": path} for i, path in enumerate(mounts or {})]
        container = {
            "name": "main", "image": self.image(image), "command": list(command), "securityContext": RESTRICTED,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
            "envFrom": [{"secretRef": {"name": secret}}] if secret else [],
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *places],
        }  # fmt: skip
        spec: Object = {
            "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
            "restartPolicy": "Never", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 2,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                                "seccompProfile": {"type": "RuntimeDefault"}},
        }  # fmt: skip
        if account:
            spec |= {"serviceAccountName": account}
            del spec["automountServiceAccountToken"]
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        metadata = {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}}
        self.cluster("delete", "pod", name, "-n", namespace, "--ignore-not-found", "--wait=true")
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.cluster.wait("condition=Ready", f"pod/{name}", namespace)

    def exec(self, pod: str, namespace: str, *command: str, timeout_s: float = 60, check: bool = True) -> str:
        """What a command in a pod says."""
        done = self.cluster("exec", pod, "-n", namespace, "--", *command, timeout_s=timeout_s, check=check)
        return done.output if check else done.said

    # -- the store -----------------------------------------------------------------------------------------------------

    def start_store(self, node: str) -> None:
        """The S3 server in a pod, and the two Secrets of it in each namespace: who reads, and who writes."""
        self.cluster.config_map(STORE, "programs", HERE / "objects.py")
        mounts = {"/programs": {"configMap": {"name": "programs"}}}
        self.pod("s3", STORE, "python", "/programs/objects.py", mounts=mounts, node=node)
        service = {"selector": {"app": "s3"}, "ports": [{"port": 9000}]}
        metadata = {"name": "s3", "namespace": STORE}
        self.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service})

        def keys() -> Object:
            lines = self.cluster("logs", "s3", "-n", STORE).output.splitlines()
            return next((dict(json.loads(line)) for line in lines if line.startswith("{")), {})

        for user, (key, secret) in until(keys, timeout_s=60, what="the S3 server").items():
            values = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
            for namespace in (SERVING, TRAINING):
                if namespace == SERVING or user == "writer":
                    self.cluster.secret(namespace, f"store-{user}", values)

    # -- what lies outside of the cluster ------------------------------------------------------------------------------

    @property
    def api(self) -> tuple[str, int]:
        """Address and port of the API server, as a pod's packets have it at the end."""
        subset = self.cluster.get("endpoints", "kubernetes", "default")["subsets"][0]
        return subset["addresses"][0]["ip"], subset["ports"][0]["port"]

    @property
    def outside(self) -> str:
        """An address of this machine that pods can reach."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((self.cluster.pods(STORE)[0]["status"]["podIP"], 9))
            return str(probe.getsockname()[0])

    @property
    def dns(self) -> str:
        """Address of the cluster's name server, as pods ask it."""
        told = self.exec("hands", CLIENTS, "cat", "/etc/resolv.conf").split()
        return told[told.index("nameserver") + 1]

    @contextmanager
    def without_policies(self) -> Iterator[None]:
        """No NetworkPolicy in both namespaces, while the context lasts."""
        kept = [item for namespace in (SERVING, TRAINING) for item in self.cluster.items("networkpolicy", namespace)]
        for namespace in (SERVING, TRAINING):
            self.cluster("delete", "networkpolicy", "--all", "-n", namespace)
        try:
            yield
        finally:
            for item in kept:
                metadata = {k: item["metadata"].get(k, {}) for k in ("name", "namespace", "labels", "annotations")}
                self.cluster.apply({**item, "metadata": metadata})

    # -- the charts ----------------------------------------------------------------------------------------------------

    def install(self, *case: str, chart: Path = CHART, options: Sequence[str] = (), timeout_s: int = 420) -> None:
        """Install or upgrade the serving chart with `values/CASE.yaml`, one over the other."""
        done = self.try_install(*case, chart=chart, options=options, timeout_s=timeout_s)
        assert not done.code, f"{done.said}\n{self.cluster('get', 'pods', '-n', SERVING, '-o', 'wide').output}"

    def try_install(
        self, *case: str, chart: Path = CHART, options: Sequence[str] = (), timeout_s: int = 420
    ) -> Done:  # fmt: skip
        """The same, whatever comes of it."""
        values = [HERE / "values" / f"{name}.yaml" for name in ("serving", *case)]
        here = (f"--set=defaults.image.tag={self.image_tag}", *self.api_peer())
        return self.cluster.install(NAME, chart, SERVING, *here, *options, values=values, timeout_s=timeout_s)

    def api_peer(self) -> tuple[str]:
        """The option that tells the policies where the API server is."""
        return (f"--set-json=networkPolicy.peers.kubernetes-api={API % self.api}",)

    def kept(self) -> Object:
        """What must outlive every change of the charts: what the store holds, and the host key."""
        releases = json.loads(self.releases("list", "--json"))
        secret = self.cluster.get("secret", f"{NAME}-host-key", SERVING)["data"]
        return {"releases": releases["releases"], "routing": releases["routing"], "key": secret}

    def ready(self, *components: str, timeout_s: float = 240) -> None:
        """Wait until all pods of these components, or all there are, are ready and none is on its way."""

        def all_ready() -> bool:
            for item in self.cluster.items("deployment", SERVING):
                component = item["metadata"]["labels"]["app.kubernetes.io/component"]
                status, wanted = item["status"], item["spec"]["replicas"]
                if components and component not in components:
                    continue
                counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")]
                if counts != [wanted] * 3 or status.get("observedGeneration") != item["metadata"]["generation"]:
                    return False
            return True

        until(all_ready, timeout_s=timeout_s, what=f"{', '.join(components) or 'all'} ready", every_s=1.0)
        if not components:  # of the release services all are ready, and one takes up the Lease
            until(lambda: "current" in self.releases("list", check=False), timeout_s=60, what="an active one")

    def nodes_of(self, component: str) -> list[str]:
        """Nodes of the ready pods of a component."""
        return sorted(pod["spec"]["nodeName"] for pod in self.cluster.pods(SERVING, component) if is_ready(pod))

    # -- clients -------------------------------------------------------------------------------------------------------

    def start_client(self, node: str) -> None:
        """The client that never rests, on a node that is not lost."""
        address = f"{NAME}-assessment-instances.{SERVING}.svc.cluster.local:50051"
        mounts = {
            "/programs": {"configMap": {"name": "programs"}}, "/radiographs": {"configMap": {"name": "radiographs"}},
            "/authority": {"configMap": {"name": "authority"}}, "/token": {"secret": {"secretName": "token"}},
        }  # fmt: skip
        command = ("python", "/programs/steady.py", address, "/authority/ca.crt", "/radiographs")
        self.pod("steady", CLIENTS, *command, node=node, mounts=mounts, image="serving")
        until(lambda: [c for c in self.calls() if not c.failed], timeout_s=60, what="a first answer")

    def start_hands(self, node: str) -> None:
        """A pod to run the command line in, as somebody in the hospital does."""
        mounts = {
            "/programs": {"configMap": {"name": "programs"}}, "/radiographs": {"configMap": {"name": "radiographs"}},
            "/authority": {"configMap": {"name": "authority"}}, "/token": {"secret": {"secretName": "token"}},
        }  # fmt: skip
        self.pod("hands", CLIENTS, "sleep", "86400", node=node, mounts=mounts, image="serving")

    def calls(self, since: float = 0.0, kind: str = "policy") -> list[Call]:
        """Calls of that client that began since then."""
        lines = self.cluster("logs", "steady", "-n", CLIENTS).output.splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [Call(**one) for one in told if one.get("kind") == kind and one["at"] >= since]

    def boneage(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> str:
        """What the command line says, run in the clients' namespace."""
        return self.exec("hands", CLIENTS, "boneage", *arguments, check=check, timeout_s=timeout_s)

    def releases(self, *arguments: str, check: bool = True, timeout_s: float = 180) -> str:
        """What `boneage release` says there."""
        address = f"{NAME}-release.{SERVING}.svc.cluster.local:50051"
        where = ("--server", address, "--ca", "/authority/ca.crt", "--token-file", "/token/token")
        return self.boneage("release", *where, *arguments, check=check, timeout_s=timeout_s)
