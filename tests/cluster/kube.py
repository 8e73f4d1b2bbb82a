"""kubectl and helm as the cluster's tests use them: every call has a deadline, and what fails says what it said."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
Object = dict[str, Any]


class CommandError(AssertionError):
    """A command that should have worked did not; the message holds all that it said."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command."""

    code: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self.output + self.errors


def run(*arguments: str | Path, stdin: str = "", timeout_s: float = 120.0, check: bool = True, **env: str) -> Done:
    """A command with its output. Raises CommandError where it fails and `check` is set."""
    command = [str(argument) for argument in arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False,
        env={**os.environ, **env}, cwd=ROOT,
    )  # fmt: skip
    if check and done.returncode:
        raise CommandError(
            f"{' '.join(command[:8])} ended with {done.returncode}: {(done.stderr + done.stdout)[-3000:]}"
        )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that KUBECONFIG names, asked by the programs `kubectl` and `helm`."""

    kubectl: str
    helm: str
    nodes: Sequence[str]

    def __call__(self, *arguments: str | Path, stdin: str = "", timeout_s: float = 120.0, check: bool = True) -> Done:
        """Run kubectl."""
        return run(self.kubectl, *arguments, stdin=stdin, timeout_s=timeout_s, check=check)

    def apply(self, *objects: Object) -> None:
        """Create or change objects."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(everything))

    def get(self, kind: str, name: str, namespace: str) -> Object:
        """One object."""
        found: Object = json.loads(self("get", kind, name, "-n", namespace, "-o", "json").output)
        return found

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Objects of a kind."""
        chosen = ("-l", selector) if selector else ()
        found = json.loads(self("get", kind, "-n", namespace, *chosen, "-o", "json").output)
        return list(found["items"])

    def namespace(self, name: str, *, restricted: bool = True) -> None:
        """A namespace, where it asks for it with Pod Security "restricted" enforced."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def secret(self, namespace: str, name: str, values: Mapping[str, str], kind: str = "Opaque") -> None:
        """A Secret."""
        metadata = {"name": name, "namespace": namespace}
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": dict(values)}
        )

    def config_map(self, namespace: str, name: str, *files: Path, **texts: str) -> None:
        """A ConfigMap of files, under their own names, and of texts."""
        options = [f"--from-file={file}" for file in files]
        options += [f"--from-literal={key}={text}" for key, text in texts.items()]
        made = self("create", "configmap", name, "-n", namespace, *options, "--dry-run=client", "-o", "json")
        self.apply(json.loads(made.output))

    def wait(self, condition: str, what: str, namespace: str, *, timeout_s: int = 180) -> None:
        """Wait for a condition of one object, or of all with `-l SELECTOR` in `what`."""
        self(
            "wait",
            f"--for={condition}",
            *what.split(),
            "-n",
            namespace,
            f"--timeout={timeout_s}s",
            timeout_s=timeout_s + 30,
        )

    def rolled_out(self, namespace: str, selector: str = "", *, timeout_s: int = 300) -> None:
        """Wait until the Deployments have all their replicas, of the newest kind."""
        for item in self.items("deployment", namespace, selector):
            name = item["metadata"]["name"]
            self(
                "rollout",
                "status",
                f"deployment/{name}",
                "-n",
                namespace,
                f"--timeout={timeout_s}s",
                timeout_s=timeout_s + 30,
            )

    def pods(self, namespace: str, component: str = "") -> list[Object]:
        """Pods that are not about to go, of a component or all."""
        selector = f"app.kubernetes.io/component={component}" if component else ""
        return [pod for pod in self.items("pod", namespace, selector) if "deletionTimestamp" not in pod["metadata"]]

    def install(
        self,
        release: str,
        chart: str | Path,
        namespace: str,
        *options: str,
        values: Sequence[Path] = (),
        timeout_s: int = 300,
    ) -> Done:
        """`helm upgrade --install --wait`; `options` come last."""
        files = [f"--values={path}" for path in values]
        wait = ("--namespace", namespace, "--wait", f"--timeout={timeout_s}s")
        return run(
            self.helm,
            "upgrade",
            "--install",
            release,
            chart,
            *wait,
            *files,
            *options,
            timeout_s=timeout_s + 60,
            check=False,
        )


def is_ready(pod: Object) -> bool:
    """Whether a pod says that it is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
