"""Jobs of the training chart as objects of Kubernetes: what is made of a CronJob, and what a Job has come to.

Objects are dictionaries, as the API has them in JSON; nothing here talks to a cluster.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.cli.usage import UsageError

Object = dict[str, Any]

COMPONENT: Final = "app.kubernetes.io/component"
INSTANCE: Final = "app.kubernetes.io/instance"
SELECTOR: Final = "app.kubernetes.io/part-of=boneage,boneage/role=job"
CRONJOB_SELECTOR: Final = "app.kubernetes.io/part-of=boneage"
QUEUE: Final = "kueue.x-k8s.io/queue-name"
JOB_NAME: Final = "batch.kubernetes.io/job-name"
INDEX: Final = "batch.kubernetes.io/job-completion-index"
CONTAINER: Final = "job"
CONFIG_VOLUME: Final = "config"
CONFIG_KEY: Final = "config.yaml"
EXIT_CODES: Final[Mapping[str, int]] = {
    "done": 0,
    "failed": 1,
    "waiting for labels": 3,
    "bad configuration": 64,
    "store unwritable": 74,
    "interrupted": 143,
}
"""By outcome; the table of training.run.exits, which serving does not install."""
OUTCOMES: Final = {code: outcome for outcome, code in EXIT_CODES.items()}
FAILED: Final = "failed"
TELLING: Final = ("bad configuration", "store unwritable", FAILED, "waiting for labels", "interrupted")
"""The first that one of a failed Job's pods came to is the Job's: when one fails, the others are interrupted."""


def job_from(cronjob: Object, name: str) -> Object:
    """A Job, not started yet, of a CronJob's template; its configuration will be the ConfigMap of the same name."""
    template = copy.deepcopy(cronjob["spec"]["jobTemplate"])
    metadata = template.get("metadata") or {}
    spec = template["spec"] | {"suspend": True}
    for volume in spec["template"]["spec"].get("volumes", []):
        if volume["name"] == CONFIG_VOLUME:
            volume["configMap"]["name"] = name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": metadata.get("labels", {}),
            "annotations": (metadata.get("annotations") or {}) | {"cronjob.kubernetes.io/instantiate": "manual"},
            # It goes with the chart, but does not count as one of the schedule's.
            "ownerReferences": [owner(cronjob, kind="CronJob")],
        },
        "spec": spec,
    }


def config_map(job: Object, config: str) -> Object:
    """The configuration of a Job that is there, gone when it is."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": job["metadata"]["name"],
            "labels": job["metadata"]["labels"],
            "ownerReferences": [owner(job, kind="Job")],
        },
        "immutable": True,
        "data": {CONFIG_KEY: config},
    }


def owner(of: Object, *, kind: str) -> Object:
    """A reference to an object that takes this one with it when it is deleted."""
    metadata = of["metadata"]
    return {"apiVersion": "batch/v1", "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}


def config_of(cronjob: Object) -> str:
    """Name of the ConfigMap with the configuration that a CronJob comes with. Raises UsageError."""
    volumes = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"].get("volumes") or []
    for volume in volumes:
        if volume["name"] == CONFIG_VOLUME and volume.get("configMap"):
            return str(volume["configMap"]["name"])
    raise UsageError(f"the CronJob {cronjob['metadata']['name']} is none of the chart boneage-training")


def chosen(cronjobs: Sequence[Object], job: str, release: str) -> Object:
    """The CronJob of a job. Raises UsageError where there is none, or several and no release to choose by."""
    ours = [c for c in cronjobs if not release or c["metadata"]["labels"].get(INSTANCE) == release]
    found = [c for c in ours if c["metadata"]["labels"].get(COMPONENT) == job]
    if len(found) == 1:
        return found[0]
    if found:
        releases = ", ".join(sorted(c["metadata"]["labels"].get(INSTANCE, "") for c in found))
        raise UsageError(f"several releases here have the job {job}: {releases}; choose one with --release")
    there = ", ".join(sorted({c["metadata"]["labels"].get(COMPONENT, "") for c in ours}))
    raise UsageError(f"there is no job {job!r} here; there is {there or 'none: install the chart boneage-training'}")


@dataclass(frozen=True, slots=True)
class Run:
    """A Job with its pods, oldest first; of several nodes those of the first one, and besides those of the others."""

    job: Object
    pods: Sequence[Object] = field(default=())
    others: Sequence[Object] = field(default=())

    @classmethod
    def of(cls, job: Object, pods: Sequence[Object]) -> "Run":
        """A Job and all its pods."""
        speaking = first(pods)
        return cls(job, speaking, [pod for pod in pods if pod not in speaking])

    @property
    def name(self) -> str:
        """Of the Job."""
        return str(self.job["metadata"]["name"])

    @property
    def kind(self) -> str:
        """Which of the chart's jobs it is."""
        return str(self.job["metadata"].get("labels", {}).get(COMPONENT, ""))

    @property
    def started(self) -> str:
        """When it was started, or made, in RFC 3339."""
        return str(self.job.get("status", {}).get("startTime") or self.job["metadata"]["creationTimestamp"])

    @property
    def restarts(self) -> int:
        """How many pods there were before the last one; those that a drain took away are no failures, but are there."""
        failed = int(self.job.get("status", {}).get("failed") or 0)
        return max(failed - (self.ended == "Failed"), len(self.pods) - 1, 0)

    @property
    def ended(self) -> str:
        """Complete or Failed; empty while it goes on."""
        return next((kind for kind in ("Complete", "Failed") if self._condition(kind)), "")

    @property
    def outcome(self) -> str:
        """What it came to, of those that EXIT_CODES has; empty while it goes on."""
        if not self.ended:
            return ""
        if self.ended == "Failed":
            came_to = {outcome_of(pod)[0] for pod in (*self.pods, *self.others)}
            return next((outcome for outcome in TELLING if outcome in came_to), FAILED)
        # A run that waits for outlines ends well, and says so; all else that ends well is done.
        told = [outcome for pod in self.pods if (outcome := outcome_of(pod)[0])]
        return told[-1] if told and told[-1] == "waiting for labels" else "done"

    @property
    def exit_code(self) -> int:
        """Of the command that followed it to its end."""
        return EXIT_CODES.get(self.outcome, EXIT_CODES[FAILED])

    @property
    def state(self) -> str:
        """What it came to, or how it stands."""
        if self.ended:
            return self.outcome
        if self.job["metadata"].get("deletionTimestamp"):
            return "stopping"
        if self.job["spec"].get("suspend"):
            return "queued" if QUEUE in self.job["metadata"].get("labels", {}) else "suspended"
        phases = {pod.get("status", {}).get("phase") for pod in self.pods}
        return "running" if "Running" in phases else "starting"

    @property
    def message(self) -> str:
        """What there is to say of its end: by the last pod that came to it, else by the Job."""
        ends = [outcome_of(pod) for pod in (*self.others, *self.pods)]
        if told := [message for outcome, message in ends if message and outcome == self.outcome]:
            return told[-1]
        failed = self._condition("Failed")
        return str(failed.get("message", "")) if failed else ""

    def _condition(self, kind: str) -> Object | None:
        conditions: list[Object] = self.job.get("status", {}).get("conditions") or []
        return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def outcome_of(pod: Object) -> tuple[str, str]:
    """What a pod came to, and its message; empty while it runs. By what it wrote itself, else by its exit code."""
    ended = container(pod).get("state", {}).get("terminated")
    if not ended:
        return ("interrupted", "the pod was lost") if pod.get("status", {}).get("phase") == "Failed" else ("", "")
    try:
        told = json.loads(ended.get("message") or "")
        outcome, message = str(told["outcome"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        outcome, message = "", ""
    if outcome not in EXIT_CODES:
        outcome = OUTCOMES.get(ended["exitCode"], FAILED)
    return outcome, message or (str(ended.get("reason", "")) if outcome == FAILED else "")


def container(pod: Object) -> Object:
    """The status of a pod's own container; empty before there is one."""
    statuses: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == CONTAINER), {})


def first(pods: Sequence[Object]) -> list[Object]:
    """Those pods that speak for a Job, oldest first: of several nodes the first one's."""
    ours = [pod for pod in pods if pod["metadata"].get("labels", {}).get(INDEX, "0") == "0"]
    return sorted(ours, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


def hindrance(pod: Object) -> str:
    """Why a pod does not start, where Kubernetes says so; else nothing."""
    waiting = container(pod).get("state", {}).get("waiting") or {}
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason", ""))
    return ""
