"""The API server takes every example of the charts, and its strictest Pod Security has nothing to say."""

import pytest
import yaml

from tests.charts.conftest import EXAMPLES
from tests.charts.custom_resources import SPECS
from tests.cluster.kube import Cluster, run

NAMESPACE = "boneage-test-dry"


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    """A namespace that is warned of every pod template that "restricted" would not let in."""
    labels = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn")}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    yield NAMESPACE
    cluster("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.parametrize(("chart", "case"), EXAMPLES, ids=[f"{chart.name}-{case.name}" for chart, case in EXAMPLES])
def test_the_api_server_takes_it(cluster: Cluster, namespace: str, chart, case) -> None:
    """All but other projects' resources, which this cluster does not know."""
    values = ("--namespace", namespace, "--values", case / "values.yaml")
    text = run(cluster.helm, "template", "boneage", chart, *values).output
    objects = [
        item for item in yaml.safe_load_all(text) if item and f"{item['apiVersion']}/{item['kind']}" not in SPECS
    ]
    for item in objects:
        if item["kind"] == "Pod":
            item["spec"].pop("priorityClassName", None)  # a class of the hospital's, which must be there for a pod
    accounts = [item for item in objects if item["kind"] == "ServiceAccount"]  # a pod is refused without its own
    cluster.apply(*({**item, "metadata": {**item["metadata"], "namespace": namespace}} for item in accounts))
    everything = yaml.safe_dump_all(objects)
    done = cluster("apply", "--dry-run=server", "--server-side", "-n", namespace, "-f", "-", stdin=everything)
    assert done.output.count("(server dry run)") == len(objects)
    assert "Warning" not in done.errors, done.errors
