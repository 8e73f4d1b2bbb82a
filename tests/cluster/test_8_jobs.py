"""`boneage jobs` against a real cluster, with the rights that the training chart gives, and a job that only counts."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import ROOT, Cluster, Done, run
from tests.cluster.system import TRAINING_CHART, until

NAMESPACE = "boneage-test-jobs"
PLACE = "/opt/boneage/training/jobs/count_job.py"
PATIENCE_S = 150


@dataclass(frozen=True, slots=True)
class Jobs:
    """The command, as somebody who may only submit."""

    cluster: Cluster
    kubeconfig: Path

    def __call__(self, *arguments: str, check: bool = True) -> Done:
        """Run it to its end."""
        return run(
            *self.command(*arguments), timeout_s=PATIENCE_S, check=check, KUBECONFIG=str(self.kubeconfig)
        )  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        """Its command line."""
        return [sys.executable, "-m", "services.cli", "jobs", *arguments, "--namespace", NAMESPACE]

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """Run it beside the test."""
        return subprocess.Popen(
            ["env", f"KUBECONFIG={self.kubeconfig}", *self.command(*arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def count(self, *changes: str, job: str = "count", **options: Any) -> tuple[str, ...]:
        """Arguments of a submission that counts in a file of its own."""
        settings = [f"{key}={value}" for key, value in options.items()]
        return ("submit", job, *(part for setting in settings for part in ("--set", setting)), *changes)

    def listed(self) -> dict[str, dict[str, Any]]:
        """What `list` tells, by name."""
        return {row["name"]: row for row in json.loads(self("list", "--json").output)}

    def pod(self, name: str) -> str:
        """The pod of a Job that runs now, once there is one."""
        found = until(
            lambda: [
                pod
                for pod in self.cluster.items("pod", NAMESPACE, f"batch.kubernetes.io/job-name={name}")
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
            ],
            timeout_s=PATIENCE_S, what=f"a running pod of {name}",
        )  # fmt: skip
        return str(found[0]["metadata"]["name"])

    def counting(self, name: str) -> str:
        """The pod of a Job, once it counts."""
        pod = self.pod(name)
        until(
            lambda: "counted" in self.cluster("logs", pod, "-n", NAMESPACE, check=False).output,
            timeout_s=PATIENCE_S, what=f"{pod} counting",
        )  # fmt: skip
        return pod


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The training chart with jobs that count, and the access of one who may submit."""
    folder = tmp_path_factory.mktemp("jobs")
    cluster("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout_s=240)
    cluster.namespace(NAMESPACE)
    cluster("create", "serviceaccount", "submitter", "-n", NAMESPACE)
    cluster.config_map(NAMESPACE, "count-job", ROOT / "tests/cluster/count_job.py")
    count = {
        "module": "count_job", "config": {"out": "$RUNS/count", "to": 3},
        "extraVolumes": [{"name": "module", "configMap": {"name": "count-job"}}],
        "extraVolumeMounts": [{"name": "module", "mountPath": PLACE, "subPath": "count_job.py"}],
    }  # fmt: skip
    others = ("hands", "segmenter", "enhancement", "transfer", "study", "publish", "active-learning", "split")
    claim = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
    values = {
        "defaults": {
            "image": {"repository": "boneage/release", "tag": images},
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "terminationGracePeriodSeconds": 20,
        },
        "work": {"claim": claim}, "store": {"claim": claim},
        "submitters": {
            "create": True, "subjects": [{"kind": "ServiceAccount", "name": "submitter", "namespace": NAMESPACE}],
        },
        "jobs": {"count": count, "frail": count | {"backoffLimit": 0}} | dict.fromkeys(others),
    }  # fmt: skip
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    cluster.install("training", TRAINING_CHART, NAMESPACE, values=[folder / "values.yaml"], timeout_s=120)
    yield Jobs(cluster, _access(cluster, folder))
    cluster("delete", "namespace", NAMESPACE, "--wait=false")


def _access(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig with the token of the account that may submit."""
    token = cluster("create", "token", "submitter", "-n", NAMESPACE).output.strip()
    config = json.loads(cluster("config", "view", "--raw", "--minify", "-o", "json").output)
    config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
    (folder / "config").write_text(json.dumps(config))
    return folder / "config"


def assert_counted(log: str, said: str, last: int) -> None:
    """The counting job has said every number once, in order, whichever of its pods did.

    Nodes that share a disk, as those of a test on one machine may, take each other's logs for garbage: then numbers
    may be missing, and the command says that the log is gone.
    """
    lines = [line for line in log.splitlines() if line.startswith("counted")]
    numbers = [int(line.removeprefix("counted ")) for line in lines]
    assert numbers == sorted(set(numbers))
    assert numbers == list(range(1, last + 1)) or "no log of" in said


def test_a_job_runs_with_its_configuration_changed(jobs: Jobs) -> None:
    """What is set reaches the job, whose own configuration goes with it; its log and its end are told."""
    done = jobs(*jobs.count(out="$RUNS/first", to=4))
    name, _, log = done.output.partition("\n")
    assert_counted(log, done.errors, 4)
    assert done.errors.splitlines()[-1] == f"{name}: done"
    row = jobs.listed()[name]
    assert (row["job"], row["state"], row["restarts"]) == ("count", "done", 0)
    owned = jobs.cluster.get("configmap", name, NAMESPACE)
    assert yaml.safe_load(owned["data"]["config.yaml"])["to"] == 4
    assert owned["metadata"]["ownerReferences"][0]["uid"] == jobs.cluster.get("job", name, NAMESPACE)["metadata"]["uid"]
    again = jobs("logs", "count")
    assert_counted(again.output, again.errors, 4)


def test_each_end_is_the_commands_end(jobs: Jobs, tmp_path: Path) -> None:
    """Waiting ends well for Kubernetes, and the command says so; what is wrong for ever is not tried again."""
    expected = {"waiting": (3, "waiting for labels"), "bad": (64, "bad configuration"),
                "unwritable": (74, "store unwritable")}  # fmt: skip
    (tmp_path / "other.yaml").write_text("out: $RUNS/ends\nto: 1\n")
    names = {
        then: jobs(*jobs.count("--config", str(tmp_path / "other.yaml"), "--no-follow", then=then)).output.strip()
        for then in expected
    }
    codes = {then: jobs("logs", "--follow", name, check=False).code for then, name in names.items()}
    assert codes == {then: code for then, (code, _) in expected.items()}
    listed = jobs.listed()
    for then, (_, outcome) in expected.items():
        row = listed[names[then]]
        assert (row["state"], row["restarts"]) == (outcome, 0)
        assert row["message"].endswith("counted to 1")


def test_a_pod_that_is_deleted_is_followed_by_one_that_goes_on(jobs: Jobs) -> None:
    """Nothing is counted twice, and the log goes on over both pods."""
    following = jobs.started(*jobs.count(out="$RUNS/deleted", to=40, pause_s=0.2))
    assert following.stdout is not None
    name = following.stdout.readline().strip()
    jobs.cluster("delete", "pod", jobs.counting(name), "-n", NAMESPACE)
    log, said = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0, said
    assert_counted(log, said, 40)
    assert jobs.listed()[name]["restarts"] == 1


def test_a_disruption_is_no_failure(jobs: Jobs) -> None:
    """A pod that is evicted, as by the drain of a node, is replaced even where no failure is allowed."""
    name = jobs(*jobs.count("--no-follow", job="frail", out="$RUNS/evicted", to=40, pause_s=0.2)).output.strip()
    pod = jobs.counting(name)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    place = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    jobs.cluster("create", "--raw", place, "-f", "-", stdin=json.dumps(eviction))
    assert jobs("logs", "--follow", name).errors.splitlines()[-1] == f"{name}: done"


def test_ctrl_c_detaches_and_cancel_ends(jobs: Jobs) -> None:
    """Who stops following is told how to go on; who cancels waits for the state to be saved; a follower is told."""
    first = jobs.started(*jobs.count(out="$RUNS/cancelled", to=300, pause_s=0.2))
    assert first.stdout is not None
    name = first.stdout.readline().strip()
    jobs.counting(name)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130
    assert f"boneage jobs logs --follow {name} --namespace {NAMESPACE}" in said
    second = jobs.started("logs", "--follow", name)
    assert second.stdout is not None
    assert second.stdout.readline().startswith("counted")
    assert f"{name} is cancelled" in jobs("cancel", name).output
    _, said = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 143
    assert said.splitlines()[-1] == f"{name} is cancelled"
    assert name not in jobs.listed()
    assert "counted" not in jobs(*jobs.count(out="$RUNS/cancelled", to=1)).output


def test_the_jobs_account_has_no_rights(jobs: Jobs) -> None:
    """A pod of a job has no token, and its account may do nothing with the API."""
    account = f"system:serviceaccount:{NAMESPACE}:training-job"
    allowed = jobs.cluster("auth", "can-i", "--list", "-n", NAMESPACE, "--as", account, "--no-headers").output
    resources = [line for line in allowed.splitlines() if not line.startswith((" ", "selfsubject"))]
    assert resources == []
    name = jobs(*jobs.count("--no-follow", out="$RUNS/token", to=1)).output.strip()
    jobs("logs", "--follow", name)
    (pod,) = jobs.cluster.items("pod", NAMESPACE, f"batch.kubernetes.io/job-name={name}")
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]


def test_what_is_not_there_is_named(jobs: Jobs) -> None:
    """A job, a Job and a key that there are none of."""
    unknown = jobs("submit", "transfr", check=False)
    assert unknown.code == 2
    assert "there is no job 'transfr' here; there is count, frail" in unknown.errors
    absent = jobs("cancel", "count-000000", check=False)
    assert (absent.code, "the Job count-000000: it is not there" in absent.errors) == (1, True)
    nonsense = jobs("submit", "count", "--set", "to.number=3", check=False)
    assert (nonsense.code, "to is 3, which has nothing inside" in nonsense.errors) == (2, True)
    assert "count-000000" not in jobs.listed()
