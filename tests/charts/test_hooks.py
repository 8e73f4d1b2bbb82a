"""Hooks that run before the installation need nothing that the installation makes."""

import json
from typing import Any

from tests.charts.conftest import CHARTS, Helm, Object, containers_of, parsed, pod_of

SERVING = CHARTS[0]
HOOK = "helm.sh/hook"
OPTIONS = (
    "store.url=s3://models/boneage",
    "store.s3.existingSecret=reader",
    "store.s3.writerSecret=writer",
    "inference.runtime=triton",
    "tls.mode=existingSecret",
    "tls.existingSecret=certificates",
)


def early(item: Object) -> bool:
    """Whether helm makes it before the ordinary objects."""
    return "pre-install" in item["metadata"].get("annotations", {}).get(HOOK, "")


def mentioned(part: Any) -> set[str]:
    """All strings in an object."""
    if isinstance(part, dict):
        return set().union(*map(mentioned, part.values()))
    if isinstance(part, list):
        return set().union(*map(mentioned, part))
    return {part} if isinstance(part, str) else set()


def hooked(helm: Helm, *values: str, trust: dict[str, Any]) -> tuple[list[Object], set[str]]:
    """The pods of early hooks, and the names of the ordinary ConfigMaps, Secrets, claims and accounts."""
    options = [option for value in values for option in ("--set", value)]
    done = helm("template", "boneage", SERVING, *options, "--set-json", f"trust={json.dumps(trust)}")
    assert done.returncode == 0, done.stderr
    items = list(parsed(done.stdout))
    kinds = {"ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"}
    ordinary = {item["metadata"]["name"] for item in items if item["kind"] in kinds and not early(item)}
    return [pod for item in items if early(item) and (pod := pod_of(item))], ordinary


def test_no_early_hook_needs_what_the_chart_makes(helm: Helm) -> None:
    """Its pod would wait at a first install for what comes after it."""
    keys = {"keys": {"release.pub": "PEM"}}
    for options in (OPTIONS, ("store.existingClaim=theirs",)):
        pods, ordinary = hooked(helm, *options, trust=keys)
        assert pods
        assert {"boneage-trusted-keys", "boneage-host-key"} <= ordinary
        for pod in pods:
            assert not mentioned(pod) & ordinary
            told = {entry["name"] for container in containers_of(pod) for entry in container.get("env") or []}
            assert "BONEAGE_STORE" in told
            assert "BONEAGE_TRUSTED_KEY_FILES" not in told


def test_an_early_hook_has_the_keys_that_are_there(helm: Helm) -> None:
    """Those of a ConfigMap that whoever installs has made."""
    (pod,), _ = hooked(helm, *OPTIONS, trust={"existingConfigMap": "theirs", "files": ["release.pub"]})
    assert {"name": "trusted-keys", "configMap": {"name": "theirs"}} in pod["volumes"]
