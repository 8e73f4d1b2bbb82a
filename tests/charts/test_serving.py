"""What the serving chart tells processes agrees with what they read, and pods end as calls need it."""

import re
from math import ceil

import pytest
import yaml

from services.core.runtime.settings import KNOWN_KEYS, PREFIX
from tests.charts.conftest import EXAMPLES, ROOT, containers_of, parsed, pod_of

CHART = ROOT / "charts/boneage"
SERVING = [(chart, case) for chart, case in EXAMPLES if chart == CHART]
MODEL_SERVICES = ("segmentation", "enhancement", "regression", "cam")


@pytest.fixture(scope="module")
def installed(helm):
    """`installed(VALUE, ...)`: what the chart makes with these values, by kind and name."""

    def make(*values):
        options = [option for value in values for option in ("--set", value)]
        done = helm("template", "boneage", CHART, "--namespace", "boneage", *options)
        assert done.returncode == 0, done.stderr
        return {(item["kind"], item["metadata"]["name"]): item for item in parsed(done.stdout)}

    return make


def environment(container):
    """Its variables that have a value of their own."""
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}


def main_container(item):
    """The container that does the work."""
    return pod_of(item)["containers"][0]


@pytest.mark.parametrize("example", SERVING, ids=[case.name for _, case in SERVING])
def test_only_settings_that_there_are(render, example):
    """A process refuses any other, so that its pod would never start."""
    for item in parsed(*render(*example).values()):
        for container in containers_of(pod) if (pod := pod_of(item)) else ():
            told = {name for name in environment(container) if name.startswith(PREFIX)}
            assert told <= KNOWN_KEYS, container["name"]
            assert len(container.get("env") or []) == len(environment(container)), "one is there twice"


def test_a_clouds_role_reaches_every_account_that_opens_the_store(installed):
    """That of the preflight, which tries it, is the release service's."""
    found = installed("store.url=s3://a/b", "inference.runtime=triton", r"defaults.accountAnnotations.a\.b/role=reads",
                      r"services.release.accountAnnotations.a\.b/role=writes")  # fmt: skip
    roles = {
        name.removeprefix("boneage-"): item["metadata"]["annotations"]["a.b/role"]
        for (kind, name), item in found.items()
        if kind == "ServiceAccount"
    }
    readers = ("assessment", *MODEL_SERVICES, "triton")
    openers = [item for item in found.values() if (pod := pod_of(item)) and "BONEAGE_STORE" in str(pod)]
    assert {pod_of(item)["serviceAccountName"].removeprefix("boneage-") for item in openers} <= roles.keys()
    assert len(openers) > 1
    assert roles == dict.fromkeys(readers, "reads") | {"release": "writes", "preflight": "writes"}


def test_threads_follow_the_cpu_limit(installed):
    """ONNX Runtime and OpenMP would count the node's cores."""
    for limit, threads in {"500m": 1, "1500m": 2, "3": 3, "2.5": 3}.items():
        found = installed(f"services.cam.resources.limits.cpu={limit}")
        told = environment(main_container(found["Deployment", "boneage-cam"]))
        assert told["BONEAGE_ONNX_THREADS"] == told["OMP_NUM_THREADS"] == str(threads), limit
        assert ceil(float(limit.removesuffix("m")) / (1000 if limit.endswith("m") else 1)) == threads
    unlimited = environment(main_container(installed("defaults.resources.limits=null")["Deployment", "boneage-cam"]))
    assert not {"BONEAGE_ONNX_THREADS", "OMP_NUM_THREADS"} & unlimited.keys()


def test_a_pod_has_time_to_end(installed):
    """The kill comes after the endpoints have spread, the drain and the calls in flight, whatever is set."""
    found = installed("drain.preStopSeconds=30", "drain.graceSeconds=60", "inference.runtime=triton")
    for (kind, name), item in found.items():
        if kind != "Deployment":
            continue
        pod, container = pod_of(item), main_container(item)
        slept = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        told = environment(container)
        grace = float(told.get("BONEAGE_DRAIN_DELAY_S", 0)) + float(told.get("BONEAGE_DRAIN_GRACE_S", 60))
        assert pod["terminationGracePeriodSeconds"] > slept + grace, name


def test_no_sleep_before_the_end_is_none(installed):
    """Kubernetes refuses a sleep of 0 seconds."""
    for item in installed("drain.preStopSeconds=0", "inference.runtime=triton").values():
        if item["kind"] == "Deployment":
            assert "lifecycle" not in main_container(item)


def test_a_rollout_is_given_the_time_that_a_start_may_take(installed):
    """Else it would count as failed while Triton still loads."""
    found = installed("inference.runtime=triton", "services.cam.startupSeconds=1000")
    for name, seconds in {"triton": 900, "cam": 1000, "assessment": 120}.items():
        item = found["Deployment", f"boneage-{name}"]
        probe = main_container(item)["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] == seconds
        assert item["spec"]["progressDeadlineSeconds"] >= seconds + 600, name


def test_a_rollout_never_has_fewer_than_wanted(installed):
    """A new pod must have been ready for a while before an old one goes."""
    for (kind, _), item in installed("inference.runtime=triton").items():
        if kind == "Deployment":
            assert item["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
            assert item["spec"]["minReadySeconds"] >= 5


def test_models_run_where_one_value_says(installed):
    """In the services on the CPU, or on Triton with a GPU; both read what the sync beside them has checked."""
    inside = installed()
    assert ("Deployment", "boneage-triton") not in inside
    outside = installed("inference.runtime=triton")
    for name in MODEL_SERVICES:
        assert (
            environment(main_container(inside["Deployment", f"boneage-{name}"]))["BONEAGE_INFERENCE"] == "onnxruntime"
        )
        told = environment(main_container(outside["Deployment", f"boneage-{name}"]))
        assert (told["BONEAGE_INFERENCE"], told["BONEAGE_TRITON_URL"]) == ("triton", "boneage-triton:8001")
    pod = pod_of(outside["Deployment", "boneage-triton"])
    (triton,) = pod["containers"]
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    mounts = {mount["mountPath"]: mount for mount in triton["volumeMounts"]}
    assert mounts.keys() >= {"/dev/shm", "/tmp", "/var/cache/boneage/tensorrt"}
    assert mounts["/var/lib/boneage/repository"]["readOnly"] is True
    assert triton["startupProbe"]["periodSeconds"] * triton["startupProbe"]["failureThreshold"] == 15 * 60


def test_triton_on_the_cpu_asks_for_no_gpu(installed):
    """Neither for the node of one, nor for a place for engines; unless it is said."""
    found = installed("inference.runtime=triton", "triton.flavour=cpu")
    pod = pod_of(found["Deployment", "boneage-triton"])
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in pod
    assert ("PersistentVolumeClaim", "boneage-engines") not in found
    asked = pod_of(
        installed("inference.runtime=triton", "triton.flavour=cpu", "triton.gpus=2")["Deployment", "boneage-triton"]
    )
    assert asked["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_only_the_release_service_may_write_the_store(installed):
    """The sync beside each runtime is given the reader's credentials, and a volume that it cannot write."""
    s3 = installed("store.url=s3://a/b", "store.s3.existingSecret=reader", "store.s3.writerSecret=writer")
    secrets = {}
    for (kind, name), item in s3.items():
        for container in containers_of(pod_of(item)) if kind == "Deployment" else ():
            for entry in container.get("env", []):
                if entry["name"].startswith("AWS_") and "valueFrom" in entry:
                    secrets.setdefault(entry["valueFrom"]["secretKeyRef"]["name"], set()).add(name)
    assert secrets == {"reader": {f"boneage-{name}" for name in MODEL_SERVICES}, "writer": {"boneage-release"}}
    writable = set()
    for (kind, name), item in installed().items():
        for container in containers_of(pod_of(item)) if kind == "Deployment" else ():
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            if "store" in mounts and not mounts["store"].get("readOnly"):
                writable.add(name)
    assert writable == {"boneage-release"}


def test_certificates_bear_every_name_that_is_called(installed):
    """The release service dials pods, and calls them by the name of their Service."""
    found = installed("tls.mode=certManager", "tls.certManager.issuerRef.name=ca", "tls.dnsNames={hands.example}")
    services = {name for kind, name in found if kind == "Service"}
    borne = {name for (kind, _), item in found.items() if kind == "Certificate" for name in item["spec"]["dnsNames"]}
    for service in services:
        assert borne >= {
            f"{service}{domain}" for domain in ("", ".boneage", ".boneage.svc", ".boneage.svc.cluster.local")
        }
    assert "hands.example" in found["Certificate", "boneage-assessment"]["spec"]["dnsNames"]
    for name in (*MODEL_SERVICES, "assessment", "release"):
        secret = found["Certificate", f"boneage-{name}"]["spec"]["secretName"]
        pod = pod_of(found["Deployment", f"boneage-{name}"])
        assert [volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "tls"] == [secret]
        (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "tls")
        assert "subPath" not in mount, "such a file never changes"


def test_the_release_service_reaches_what_is_not_ready_yet(installed):
    """It is what makes a runtime ready, so that it must be told of all pods; clients only of those that are."""
    found = installed("inference.runtime=triton")
    told = environment(main_container(found["Deployment", "boneage-release"]))
    called = {
        place.partition(":")[0] for place in f"{told['BONEAGE_MODEL_HOSTS']},{told['BONEAGE_TRITON_URL']}".split(",")
    }
    assert called == {f"boneage-{name}-instances" for name in (*MODEL_SERVICES, "triton")}
    for name in called:
        assert found["Service", name]["spec"]["publishNotReadyAddresses"] is True
    for name in (*MODEL_SERVICES, "triton", "release"):
        spec = found["Service", f"boneage-{name}"]["spec"]
        assert spec["clusterIP"] == "None", "clients balance by the addresses of all pods"
        assert "publishNotReadyAddresses" not in spec
    assert "clusterIP" not in found["Service", "boneage-assessment"]["spec"]


def test_alerts_ask_for_metrics_that_there_are(render):
    """Those of the table in docs/operations.md."""
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)) | {"up"}
    text = render(CHART, CHART / "examples/gpu-production")["metrics.yaml"]
    (rules,) = (item for item in parsed(text) if item["kind"] == "PrometheusRule")
    asked = set()
    for rule in rules["spec"]["groups"][0]["rules"]:
        asked |= set(re.findall(r"\b([a-z_]+)\{", rule["expr"]))
    assert {name.removesuffix("_bucket") for name in asked} <= documented
    assert len(asked) >= 4


def test_pins_of_images_are_taken(installed):
    """A digest wins over a tag, one registry over all others."""
    found = installed(
        "services.cam.image.digest=sha256:0123", "global.imageRegistry=mirror.example", "inference.runtime=triton"
    )
    assert main_container(found["Deployment", "boneage-cam"])["image"] == "mirror.example/boneage/serving@sha256:0123"
    assert main_container(found["Deployment", "boneage-triton"])["image"].startswith(
        "mirror.example/nvidia/tritonserver:"
    )
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert (
        main_container(found["Deployment", "boneage-release"])["image"] == f"mirror.example/boneage/release:{version}"
    )
