"""Values are an API: every key is described, every other one is refused, and what contradicts itself is told."""

import pytest
import yaml

from deploy.chart_schemas import UndescribedError, schema_of, written
from tests.charts.conftest import CHARTS, ROOT, parsed

SERVING = ROOT / "charts/boneage"
TRAINING = ROOT / "charts/boneage-training"
FIRST = ROOT / "tests/charts/boneage-0.1.0.tgz"


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_the_schema_is_that_of_the_described_keys(chart):
    """`make charts` would change nothing, and finds a description of every key."""
    for path, content in written(chart):
        assert path.read_text() == content


def test_a_key_without_a_description_is_found():
    """The test above would see one, and one whose default says no type."""
    with pytest.raises(UndescribedError, match=r"^a\.b has no comment$"):
        schema_of("# A.\na:\n  b: 1\n")
    with pytest.raises(UndescribedError, match=r"^a: its default does not say its type"):
        schema_of("# A.\na: []\n")


@pytest.mark.parametrize(
    "misspelt",
    [
        "replcas",
        "defaults.replcas",
        "defaults.image.tagg",
        "services.cam.replcas",
        "services.cam.autoscaling.minReplica",
        "services.cam.resources.limit.cpu",
        "services.cam.settings.LOG_LEVLE",
        "services.asessment.replicas",
        "store.s3.endpointURL",
        "triton.engineCache.sise",
        "triton.settings.LOG_LEVEL",
        "triton.module",
        "triton.roles",
        "triton.autoscaling.queueTime.enable",
        "networkPolicy.peers.promethius.peers",
        "tls.certManager.issuerRef.nam",
    ],
)
def test_a_misspelt_key_is_refused(helm, misspelt):
    """At any depth, and by the key's name."""
    done = helm("template", "boneage", SERVING, "--set", f"{misspelt}=2")
    assert done.returncode != 0
    assert any(f"'{part}'" in done.stderr or f"/{part}'" in done.stderr for part in misspelt.split(".")), done.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("tls.mode=cert-manager", "value must be one of 'none', 'existingSecret', 'certManager'"),
        ("tls.mode=certManager", "tls.mode=certManager needs tls.certManager.issuerRef.name"),
        ("tls.mode=existingSecret", "tls.mode=existingSecret needs tls.existingSecret, or tls.existingSecrets.release"),
        ("tls.mutual={cam}", "tls.mutual needs tls.mode"),
        ("store.url=/srv/models", "store.url is s3://BUCKET/PREFIX"),
        ("store.url=s3://a/b,store.existingClaim=c", "name two stores"),
        ("store.url=s3://a/b,store.s3.existingSecret=c", "name both, or neither"),
        ("trust.existingConfigMap=keys", "trust.existingConfigMap needs trust.files"),
        ("ingress.enabled=true", "ingress.enabled needs ingress.host"),
        ("gateway.enabled=true", "gateway.enabled needs gateway.parentRefs"),
    ],
)
def test_values_that_contradict_each_other_are_told(helm, values, told):
    """Before anything is made."""
    done = helm("template", "boneage", SERVING, "--set", values)
    assert done.returncode != 0
    assert told in done.stderr


@pytest.mark.parametrize(
    ("chart", "values", "peers"),
    [
        (SERVING, "store.url=s3://a/b", "store"),
        (TRAINING, "store.url=s3://a/b", "store"),
        (TRAINING, "labelStudio.enabled=true,labelStudio.image.repository=a", "annotator"),
    ],
)
def test_what_is_open_to_everybody_is_told(helm, chart, values, peers):
    """Whoever installs reads which peers to set; and no more once they are set."""
    told = f"networkPolicy.peers.{peers}.peers"
    command = ("install", "boneage", chart, "--dry-run=client", "--set", values)
    assert told in helm(*command).stdout
    done = helm(*command, "--set", f"{told}[0].ipBlock.cidr=10.0.0.1/32")
    assert done.returncode == 0, done.stderr
    assert told not in done.stdout


def test_what_is_said_of_a_component_wins_over_the_defaults(helm):
    """Also false, 0 and nothing, which a plain merge of maps would skip."""
    said = (
        "defaults.disruptionBudget.enabled=true,services.cam.disruptionBudget.enabled=false,"
        "services.cam.replicas=0,services.cam.topologySpread.whenUnsatisfiable="
    )
    text = helm("template", "boneage", SERVING, "--set", said).stdout
    assert "name: boneage-cam\n" in text
    budgets = [part for part in text.split("\n---\n") if "\nkind: PodDisruptionBudget\n" in f"\n{part}"]
    assert len(budgets) == 5
    (cam,) = (part for part in text.split("\n---\n") if "kind: Deployment" in part and "name: boneage-cam\n" in part)
    assert "replicas: 0\n" in cam
    assert "topologySpreadConstraints" not in cam


def test_a_service_to_come_is_one_entry(helm, tmp_path):
    """Services are one range over a table: whoever adds a row has all that belongs to a service."""
    values = tmp_path / "values.yaml"
    values.write_text("services: {pacs: {roles: [], image: {repository: hospital/pacs}}}")
    text = helm("template", "boneage", SERVING, "--values", values).stdout
    kinds = {
        part.partition("kind: ")[2].partition("\n")[0] for part in text.split("\n---\n") if "boneage-pacs\n" in part
    }
    assert kinds >= {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}


def test_an_old_name_is_refused_with_the_new_one(helm):
    """Whatever it is set to; what is said is the chart's own message, and not that of the schema."""
    for renamed in yaml.safe_load((SERVING / "renamed.yaml").read_text()):
        done = helm("template", "boneage", SERVING, "--set", f"{renamed['old']}=20")
        assert done.returncode != 0
        assert f"{renamed['old']} was renamed to {renamed['new']} in chart {renamed['chart']}" in done.stderr
        assert "--reset-then-reuse-values" in done.stderr
        assert helm("template", "boneage", SERVING, "--set", f"{renamed['new']}=20").returncode == 0


def test_what_cannot_be_changed_is_as_in_the_first_chart(helm):
    """An upgrade would be refused by Kubernetes, half way."""

    def fixed(chart):
        found = {}
        for item in parsed(helm("template", "boneage", chart).stdout):
            spec = item.get("spec", {})
            parts = {
                "Deployment": lambda spec=spec: spec["selector"],
                "Service": lambda spec=spec: spec.get("clusterIP"),
                "PersistentVolumeClaim": lambda spec=spec: spec,
                "RoleBinding": lambda item=item: item["roleRef"],
            }
            if item["kind"] in parts:
                found[item["kind"], item["metadata"]["name"]] = parts[item["kind"]]()
        return found

    first, now = fixed(FIRST), fixed(SERVING)
    assert len(first) >= 20
    assert {key: now.get(key) for key in first} == first
