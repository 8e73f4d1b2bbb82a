"""Kubernetes takes what is rendered, and its strictest Pod Security lets it in."""

import jsonschema
import kubernetes_validate
import pytest

from tests.charts.conftest import containers_of, pod_of
from tests.charts.custom_resources import SPECS

VERSIONS = ("1.32", "1.33", "1.34")
ALLOWED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PriorityClass"}


def named(item):
    """What an object is called in a failure."""
    return f"{item['kind']}/{item['metadata'].get('name', item['metadata'].get('generateName'))}"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_kubernetes_knows(objects, version):
    """By the schema of each version, strictly: no key that it would drop in silence."""
    for item in objects:
        if f"{item['apiVersion']}/{item['kind']}" not in SPECS:
            kubernetes_validate.validate(item, version, strict=True)


def test_resources_of_other_projects_are_well_formed(objects):
    """By small schemas of our own."""
    for item in objects:
        if spec := SPECS.get(f"{item['apiVersion']}/{item['kind']}"):
            jsonschema.validate(item["spec"], spec)


def test_names_are_short_enough_and_each_is_there_once(objects):
    """A Service's name is a DNS label; two objects of one kind and name would overwrite each other."""
    names = [named(item) for item in objects]
    assert len(set(names)) == len(names)
    assert [name for name in names if len(name.partition("/")[2]) > 63] == []


def test_nothing_needs_a_right_to_the_whole_cluster(objects):
    """All stays in its namespace."""
    assert [named(item) for item in objects if item["kind"] in CLUSTER_SCOPED] == []


def test_pods_satisfy_the_level_restricted(objects):
    """And more: no root file system that can be written, nobody else's Services in the environment."""
    for item in objects:
        if (pod := pod_of(item)) is None:
            continue
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, named(item)
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False, "BONEAGE_..._PORT would be an unknown setting"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for volume in pod["volumes"]:
            assert volume.keys() - {"name"} <= ALLOWED_VOLUMES, named(item)
        for container in containers_of(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "requests" in container["resources"], f"{named(item)} {container['name']}"


def test_every_mount_has_its_volume(objects):
    """And every volume is mounted somewhere."""
    for item in objects:
        if (pod := pod_of(item)) is None:
            continue
        mounts = {mount["name"] for container in containers_of(pod) for mount in container["volumeMounts"]}
        assert {volume["name"] for volume in pod["volumes"]} == mounts, named(item)


def test_data_stay_when_the_chart_goes(objects):
    """Claims that the charts make, and the key, are kept."""
    for item in objects:
        if item["kind"] in {"PersistentVolumeClaim", "Secret"}:
            assert item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", named(item)


def test_accounts_have_no_token_unless_they_need_one(objects):
    """Who speaks to Kubernetes is named here: the release service, for its Lease, and the preflight, for its probe."""
    with_token = {
        named(item)
        for item in objects
        if (pod := pod_of(item)) and pod.get("automountServiceAccountToken") is not False
    }
    assert with_token <= {"Deployment/boneage-release", "Job/boneage-preflight"}
    for item in objects:
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is False
