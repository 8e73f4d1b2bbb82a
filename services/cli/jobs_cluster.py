"""The cluster that `boneage jobs` speaks to, by the official client: each request has a deadline, and says why not.

The client comes with the extra `cluster`; this module is imported by the command that needs it, and by nothing else.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes import client, config

from services.cli.jobs_errors import ClusterError, NotThereError
from services.cli.jobs_objects import CONTAINER, CRONJOB_SELECTOR, INSTANCE, SELECTOR, Object
from services.cli.usage import UsageError

OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod has the name of its own."""
REQUEST_TIMEOUT_S: Final = (5.0, 20.0)
"""To connect, and between two parts of an answer."""
LOG_TIMEOUT_S: Final = (5.0, 30.0)
"""The same while a log is followed: silence is looked into after that, and following goes on."""
SAYING: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "who you are is not known there: log in anew",
    HTTPStatus.FORBIDDEN: "you may not do that there; the chart's value submitters.subjects lets you",
    HTTPStatus.NOT_FOUND: "it is not there",
}


class Cluster:
    """One namespace of a cluster. Raises UsageError where no cluster is known, as all of it does ClusterError."""

    def __init__(self, namespace: str) -> None:
        configuration = client.Configuration()
        configuration.retries = urllib3.Retry(connect=1, read=0, redirect=0, status=0, other=0)
        default = _load(configuration)
        self.namespace = namespace or default
        api = client.ApiClient(configuration)
        self._plain = api.sanitize_for_serialization
        self._batch, self._core = client.BatchV1Api(api), client.CoreV1Api(api)

    def cronjobs(self) -> list[Object]:
        """Those of our charts."""
        with _told("the CronJobs"):
            return self._items(
                self._batch.list_namespaced_cron_job(
                    self.namespace, label_selector=CRONJOB_SELECTOR, _request_timeout=REQUEST_TIMEOUT_S
                )
            )

    def jobs(self, release: str = "") -> list[Object]:
        """Those of our charts, or of one, running and ended."""
        selector = f"{SELECTOR},{INSTANCE}={release}" if release else SELECTOR
        with _told("the Jobs"):
            return self._items(
                self._batch.list_namespaced_job(
                    self.namespace, label_selector=selector, _request_timeout=REQUEST_TIMEOUT_S
                )
            )

    def job(self, name: str) -> Object:
        """One Job."""
        with _told(f"the Job {name}"):
            return self._object(
                self._batch.read_namespaced_job(name, self.namespace, _request_timeout=REQUEST_TIMEOUT_S)
            )

    def create_job(self, job: Object) -> Object:
        """Make one."""
        with _told("the new Job"):
            return self._object(
                self._batch.create_namespaced_job(self.namespace, job, _request_timeout=REQUEST_TIMEOUT_S)
            )

    def resume(self, name: str) -> None:
        """Let a suspended Job run."""
        with _told(f"the Job {name}"):
            self._batch.patch_namespaced_job(
                name, self.namespace, {"spec": {"suspend": False}}, _request_timeout=REQUEST_TIMEOUT_S
            )

    def delete_job(self, name: str) -> None:
        """Begin to delete a Job; it is there until its pods have ended."""
        with _told(f"the Job {name}"):
            self._batch.delete_namespaced_job(
                name, self.namespace, propagation_policy="Foreground", _request_timeout=REQUEST_TIMEOUT_S
            )

    def config(self, name: str, key: str) -> str:
        """One value of a ConfigMap."""
        with _told(f"the ConfigMap {name}"):
            found = self._object(
                self._core.read_namespaced_config_map(name, self.namespace, _request_timeout=REQUEST_TIMEOUT_S)
            )
        return str((found.get("data") or {}).get(key, ""))

    def create_config(self, config_map: Object) -> None:
        """Make a ConfigMap."""
        with _told("the new ConfigMap"):
            self._core.create_namespaced_config_map(self.namespace, config_map, _request_timeout=REQUEST_TIMEOUT_S)

    def pods(self, selector: str) -> list[Object]:
        """Pods by their labels."""
        with _told("the pods"):
            return self._items(
                self._core.list_namespaced_pod(
                    self.namespace, label_selector=selector, _request_timeout=REQUEST_TIMEOUT_S
                )
            )

    def log(self, pod: str, *, follow: bool, since_s: int | None = None) -> Iterator[str]:
        """Lines of a pod's log, each with its time before it; where it is followed, as they come, until a silence."""
        with _told(f"the log of {pod}"):
            answer = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=CONTAINER, follow=follow, since_seconds=since_s, timestamps=True,
                _preload_content=False, _request_timeout=LOG_TIMEOUT_S,
            )  # fmt: skip
            yield from _lines(answer)

    def _items(self, found: Any) -> list[Object]:
        return [self._object(item) for item in found.items]

    def _object(self, found: Any) -> Object:
        plain: Object = self._plain(found)
        return plain


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """Whole lines; what is cut off by a silence comes again with the next answer."""
    rest = b""
    try:
        for part in answer.stream(amt=None):
            *lines, rest = (rest + part).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
        if rest:
            yield rest.decode("utf-8", "replace")
    except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError):
        return
    finally:
        answer.close()


def _load(configuration: client.Configuration) -> str:
    """Fill in address and credentials of the cluster that is chosen; its default namespace."""
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
            return OWN_NAMESPACE.read_text(encoding="utf-8").strip() or "default"
        config.load_kube_config(client_configuration=configuration)
        _, active = config.list_kube_config_contexts()
    except (config.ConfigException, OSError) as error:
        raise UsageError(f"no cluster is known: {error}; KUBECONFIG names the file with your access to one") from None
    return str(active["context"].get("namespace") or "default")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the client raises into a ClusterError that says what was asked for."""
    try:
        yield
    except client.ApiException as error:
        said = SAYING.get(error.status, f"{error.status} {error.reason}")
        kind = NotThereError if error.status == HTTPStatus.NOT_FOUND else ClusterError
        raise kind(f"{what}: {said}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterError(f"{what}: the cluster does not answer ({type(error).__name__})") from None
