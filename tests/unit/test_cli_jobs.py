"""What `boneage jobs` makes of objects and of what it is told; against a cluster see tests/cluster/test_8_jobs.py."""

import copy
import json
import os
import subprocess
import sys

import pytest
import yaml

from services.cli.jobs_config import changed, configured
from services.cli.jobs_follow import printable_line
from services.cli.jobs_objects import Run, chosen, config_map, config_of, first, hindrance, job_from, outcome_of
from services.cli.usage import UsageError

CONFIG = {"out": "$RUNS/a", "fitting": {"seed": 1}, "stages": [{"images": 10}, {"images": 20}]}


def cronjob(job="transfer", release="train"):
    """A CronJob of the chart."""
    labels = {"app.kubernetes.io/component": job, "app.kubernetes.io/instance": release}
    volumes = [{"name": "config", "configMap": {"name": f"{release}-{job}"}}, {"name": "tmp", "emptyDir": {}}]
    spec = {"backoffLimit": 6, "template": {"spec": {"volumes": volumes}}}
    return {
        "metadata": {"name": f"{release}-{job}", "uid": "u-1", "labels": labels},
        "spec": {"suspend": True, "jobTemplate": {"metadata": {"labels": labels}, "spec": spec}},
    }


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        ("fitting.seed=2", ("fitting", "seed"), 2),
        ("fitting.balanced=true", ("fitting", "balanced"), True),
        ("out=$RUNS/b", ("out",), "$RUNS/b"),
        ("versions.boneage_regressor=4", ("versions", "boneage_regressor"), 4),
        ("stages.1.images=30", ("stages", 1, "images"), 30),
        ('stages=[{"images": 5}]', ("stages", 0, "images"), 5),
        ("kept=", ("kept",), None),
        ("out=a=b", ("out",), "a=b"),
        ('release="2031.10"', ("release",), "2031.10"),
    ],
)
def test_a_change_sets_one_value(change, place, value):
    """By its path, typed as YAML; nothing else changes."""
    before = copy.deepcopy(CONFIG)
    found = changed(CONFIG, change)
    for key in place:
        found = found[key]
    assert found == value
    assert before == CONFIG


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("out", "has to be KEY=VALUE"),
        ("=1", "has to be KEY=VALUE"),
        ("fitting..seed=1", "has to be KEY=VALUE"),
        ("out.folder=1", "out is '$RUNS/a', which has nothing inside"),
        ("fitting.seed.x.y=1", "fitting.seed is 1, which has nothing inside"),
        ("stages.2.images=1", "stages is a list of 2"),
        ("stages.first=1", "stages is a list of 2"),
        ("out=[1", "the value is no YAML"),
    ],
)
def test_a_change_that_makes_no_sense_is_told(change, told):
    """What is not there inside of a map is made; what leads through a value is a mistake."""
    with pytest.raises(UsageError) as error:
        changed(CONFIG, change)
    assert told in str(error.value)


def test_a_file_takes_the_place_of_the_charts_configuration(tmp_path):
    """Changes are made to it."""
    file = tmp_path / "own.yaml"
    file.write_text("out: /own\n")
    assert yaml.safe_load(configured("out: /chart\nseed: 1", file, ["to=3"])) == {"out": "/own", "to": 3}
    assert yaml.safe_load(configured("out: /chart\nseed: 1", None, [])) == {"out": "/chart", "seed": 1}


@pytest.mark.parametrize(
    ("content", "told"), [("- 1", "holds no keys"), ("a: [", "is no YAML"), (None, "No such file")]
)
def test_a_file_that_is_no_configuration_is_told(tmp_path, content, told):
    """Before anything is made."""
    file = tmp_path / "own.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=told):
        configured("", file, [])


def test_a_job_is_its_cronjobs_template_with_a_configuration_of_its_own():
    """It waits until its ConfigMap is there, which goes when it goes."""
    template = cronjob()
    job = job_from(template, "train-transfer-1a2b3c")
    assert job["spec"]["suspend"] is True
    assert job["spec"]["backoffLimit"] == 6
    assert job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == "train-transfer-1a2b3c"
    assert config_of(template) == "train-transfer", "the CronJob is left as it is"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], "controller" in owner) == ("CronJob", "u-1", False)
    made = config_map(job | {"metadata": job["metadata"] | {"uid": "u-2"}}, "out: /a\n")
    assert (made["metadata"]["name"], made["data"]) == ("train-transfer-1a2b3c", {"config.yaml": "out: /a\n"})
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-2"


def test_the_job_is_chosen_by_its_name_and_release():
    """Of several releases one has to be named."""
    there = [cronjob(), cronjob("hands"), cronjob(release="other")]
    assert chosen(there, "hands", "")["metadata"]["name"] == "train-hands"
    assert chosen(there, "transfer", "other")["metadata"]["name"] == "other-transfer"
    with pytest.raises(UsageError, match="several releases here have the job transfer: other, train"):
        chosen(there, "transfer", "")
    with pytest.raises(UsageError, match="no job 'hand' here; there is hands, transfer"):
        chosen(there, "hand", "")
    with pytest.raises(UsageError, match="install the chart"):
        chosen([], "hands", "")


def pod(name="a", *, code=None, message="", reason="", made="2031-01-01T00:00:00Z", index=None):
    """A pod; running, or ended with a code."""
    state = (
        {"running": {}} if code is None else {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    )
    labels = {} if index is None else {"batch.kubernetes.io/job-completion-index": index}
    return {
        "metadata": {"name": name, "creationTimestamp": made, "labels": labels},
        "status": {
            "phase": "Running" if code is None else "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "job", "state": state}],
        },
    }


def told(outcome, message=""):
    """A termination message."""
    return json.dumps({"job": "transfer", "outcome": outcome, "message": message})


def run(*pods, ended="", **status):
    """A Job with its pods."""
    conditions = [{"type": ended, "status": "True", "message": "by the Job"}] if ended else []
    metadata = {"name": "train-transfer-1", "creationTimestamp": "2031-01-01T00:00:00Z"}
    return Run({"metadata": metadata, "spec": {}, "status": {"conditions": conditions, **status}}, pods)


@pytest.mark.parametrize(
    ("job", "state", "code"),
    [
        (run(), "starting", 1),
        (run(pod()), "running", 1),
        (run(pod(code=0, message=told("done")), ended="Complete"), "done", 0),
        (run(pod(code=0, message=told("waiting for labels")), ended="Complete"), "waiting for labels", 3),
        (run(ended="Complete"), "done", 0),
        (run(pod(code=64, message=told("bad configuration")), ended="Failed"), "bad configuration", 64),
        (run(pod(code=74), ended="Failed"), "store unwritable", 74),
        (run(pod(code=143), ended="Failed"), "interrupted", 143),
        (run(pod(code=137, reason="OOMKilled"), ended="Failed"), "failed", 1),
        (run(pod(code=0), ended="Failed"), "failed", 1),
        (run(ended="Failed"), "failed", 1),
        (run(pod(code=1, message="no JSON"), ended="Failed"), "failed", 1),
    ],
)
def test_the_state_of_a_job_is_what_its_last_pod_says(job, state, code):
    """By the termination message, else by the exit code, else by the Job's own condition."""
    assert (job.state, job.exit_code) == (state, code)


def test_a_job_that_has_not_started_says_why():
    """It waits in a queue, or somebody has suspended it; one that is deleted is stopping."""
    job = run()
    job.job["spec"]["suspend"] = True
    assert job.state == "suspended"
    job.job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "q"}
    assert job.state == "queued"
    job.job["metadata"]["deletionTimestamp"] = "2031-01-01T00:00:00Z"
    assert job.state == "stopping"


def test_restarts_are_pods_before_the_last_one():
    """Also those that are gone, and those that a drain took away, which are no failures."""
    assert run(pod(code=0), ended="Complete").restarts == 0
    assert run(pod(code=143), pod("b"), failed=1).restarts == 1
    assert run(pod("b"), failed=1).restarts == 1
    assert run(pod(code=143), pod("b")).restarts == 1
    assert run(pod(code=64), ended="Failed", failed=1).restarts == 0


def test_what_there_is_to_say_of_an_end_comes_from_the_pod():
    """Else from the Job, where the pod is gone; a kill for memory is told."""
    assert (
        run(pod(code=64, message=told("bad configuration", "no such file")), ended="Failed").message == "no such file"
    )
    assert run(pod(code=137, reason="OOMKilled"), ended="Failed").message == "OOMKilled"
    assert run(ended="Failed").message == "by the Job"
    assert outcome_of({"status": {"phase": "Failed"}}) == ("interrupted", "the pod was lost")


def test_the_first_of_several_nodes_speaks_for_all():
    """Its pods, oldest first."""
    pods = [pod("c", made="2031-01-01T00:00:02Z", index="0"), pod("b", index="1"), pod("a", index="0")]
    assert [p["metadata"]["name"] for p in first(pods)] == ["a", "c"]


def test_any_of_several_nodes_may_say_why_it_failed():
    """The first is only interrupted when another finds its configuration wrong; its logs are still what is followed."""
    first_node = pod("a", code=143, message=told("interrupted", "stopped"), index="0")
    wrong = pod("b", code=64, message=told("bad configuration", "no images"), index="1")
    failed = run(ended="Failed", failed=2).job
    for pods in ([first_node, wrong], [wrong, first_node]):
        job = Run.of(failed, pods)
        assert (job.outcome, job.exit_code, job.message, job.pods) == (
            "bad configuration",
            64,
            "no images",
            [first_node],
        )
    lost = Run.of(failed, [first_node, pod("b", code=137, index="1", reason="OOMKilled")])
    assert (lost.outcome, lost.message) == ("failed", "OOMKilled")


def test_what_keeps_a_pod_from_starting_is_told():
    """No node for it, no image, no Secret; a pod that is only being made is no news."""
    waiting = {"name": "job", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    assert hindrance({"status": {"containerStatuses": [waiting]}}) == "ImagePullBackOff: no such image"
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
    assert hindrance({"status": {"conditions": [unscheduled]}}) == "0/2 nodes are available"
    waiting["state"]["waiting"] = {"reason": "ContainerCreating"}
    assert hindrance({"status": {"containerStatuses": [waiting]}}) == ""


def test_a_log_cannot_move_the_cursor():
    """What a job prints is text."""
    assert printable_line("a\tb\x1b[2J\r") == "a\tb\\x1b[2J"


def jobs(*arguments, **environment):
    """The command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "jobs", *arguments], capture_output=True, text=True, check=False,
        timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )  # fmt: skip


def test_without_a_cluster_or_its_client_the_command_says_what_is_missing(tmp_path):
    """No access, an access to nothing, no client: each with what to do."""
    absent = jobs("list", KUBECONFIG=str(tmp_path / "none"))
    assert (absent.returncode, "KUBECONFIG names the file" in absent.stderr) == (2, True)
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    config = {
        "clusters": [cluster],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [context],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    dead = jobs("submit", "hands", KUBECONFIG=str(tmp_path / "config"))
    assert dead.returncode == 1
    assert "the CronJobs: the cluster does not answer" in dead.stderr
    (tmp_path / "kubernetes.py").write_text("raise ModuleNotFoundError('No module named kubernetes')")
    without = jobs("list", PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    assert without.returncode == 2
    assert "pip install 'boneage[cluster]'" in without.stderr


@pytest.mark.parametrize(("asked", "namespace"), [("", "training"), ("other", "other")])
def test_in_a_pod_its_own_namespace_is_the_default(monkeypatch, tmp_path, asked, namespace):
    """There is no kubeconfig, but the account's folder."""
    pytest.importorskip("kubernetes", reason="needs the cluster extra: pip install -e '.[cluster]'")
    from kubernetes.config import incluster_config

    from services.cli import jobs_cluster

    for name, content in (("namespace", "training\n"), ("token", "t"), ("ca.crt", "c")):
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(jobs_cluster, "OWN_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert jobs_cluster.Cluster(asked).namespace == namespace
