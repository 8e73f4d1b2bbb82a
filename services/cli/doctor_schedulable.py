"""Whether a pod of a template would find a node: one is made, the scheduler is asked, and it is deleted again.

It is how a cluster without a free GPU is told before anything is installed that would wait for one.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client

from services.cli.environment import Finding
from services.cli.jobs_cluster import OWN_NAMESPACE
from services.core.adapters.cluster import CALL_TIMEOUT_S, UNREACHED, connect, why
from services.core.errors import ConfigurationError

NAME: Final = "schedulable"
DEADLINE_S: Final = 60.0
PATIENCE_S: Final = 10.0
"""A pod that is Unschedulable for so long stays it: nodes that come later would take minutes."""
LOOK_S: Final = 0.5
OWN_POD: Final = ("POD_NAME", "POD_UID")
"""Variables that name the pod that asks, by the downward API."""
ON_CPU: Final = "or run on the CPU: --set inference.runtime=onnxruntime"
FIXES: Final[Mapping[str, str]] = {
    "Insufficient": "free what is asked for, or ask for less; a GPU: install its vendor's device plugin on the nodes",
    "affinity/selector": "label the nodes as the pod's nodeSelector and affinity ask for, or change these",
    "taint": "add the node's taint to the tolerations",
    "quota": "raise the namespace's ResourceQuota",
}
"""What to do, by a word of what the scheduler or the API server says."""
Pod = dict[str, Any]


async def check_schedulable(template: Path) -> Finding:
    """Try it with the account of this pod."""
    try:
        pod = yaml.safe_load(_read(template))
        api = client.CoreV1Api(connect())
    except (OSError, yaml.YAMLError, ConfigurationError) as error:
        return Finding(NAME, str(error), "give a Pod in YAML, and run in a pod whose account may create pods")
    try:
        reason = await _tried(api, pod)
    except UNREACHED as error:
        reason = _said(error)
    if not reason:
        return Finding(NAME, "a node takes it")
    fixes = [fix for word, fix in FIXES.items() if word in reason]
    return Finding(NAME, reason, "; ".join([*fixes, ON_CPU]) if fixes else f"look at the cluster, {ON_CPU}")


async def _tried(api: client.CoreV1Api, pod: Pod) -> str:
    """Why no node takes the pod; nothing where one does. It is deleted in any case."""
    namespace = pod["metadata"].get("namespace") or _read(OWN_NAMESPACE)
    # Should we be killed: the one ends it where it runs already, the other takes it away with us.
    pod["spec"].setdefault("activeDeadlineSeconds", round(2 * DEADLINE_S))
    if (owner := _own_pod(namespace)) is not None:
        pod["metadata"].setdefault("ownerReferences", [owner])
    made = await asyncio.to_thread(api.create_namespaced_pod, namespace, pod, _request_timeout=CALL_TIMEOUT_S)
    try:
        return await _scheduled(api, made.metadata.name, namespace)
    finally:
        await asyncio.shield(asyncio.to_thread(_delete, api, made.metadata.name, namespace))


def _own_pod(namespace: str) -> dict[str, str] | None:
    """A reference to the pod that asks, where it is known and in that namespace: an owner elsewhere counts as gone."""
    name, uid = (os.environ.get(variable, "") for variable in OWN_POD)
    if not (name and uid and OWN_NAMESPACE.exists() and _read(OWN_NAMESPACE) == namespace):
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


async def _scheduled(api: client.CoreV1Api, name: str, namespace: str) -> str:
    loop = asyncio.get_running_loop()
    end_s, refused_s, reason = loop.time() + DEADLINE_S, 0.0, "the scheduler has said nothing of it"
    while loop.time() < end_s and not (refused_s and loop.time() - refused_s > PATIENCE_S):
        pod = await asyncio.to_thread(api.read_namespaced_pod, name, namespace, _request_timeout=CALL_TIMEOUT_S)
        for condition in pod.status.conditions or ():
            if condition.type == "PodScheduled" and condition.status == "True":
                return ""
            if condition.type == "PodScheduled":
                refused_s, reason = refused_s or loop.time(), condition.message or condition.reason
        await asyncio.sleep(LOOK_S)
    return reason


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _delete(api: client.CoreV1Api, name: str, namespace: str) -> None:
    api.delete_namespaced_pod(name, namespace, grace_period_seconds=0, _request_timeout=CALL_TIMEOUT_S)


def _said(error: Exception) -> str:
    """What the API server says of a request, which names the quota or the rule that it breaks."""
    try:
        return str(json.loads(getattr(error, "body", "") or "")["message"])
    except (ValueError, KeyError, TypeError):
        return why(error)
