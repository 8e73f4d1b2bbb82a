"""The training chart: a CronJob for every job, with what it needs and no more."""

from functools import cache

import pytest
import yaml

from tests.charts.conftest import CHARTS, parsed, pod_of
from training.run.exits import ExitCode

SERVING, TRAINING = CHARTS
JOBS = ("active-learning", "enhancement", "hands", "publish", "segmenter", "split", "study", "transfer")
ON_S3 = "store.url=s3://a/b,store.s3.writerSecret=writer,store.s3.existingSecret=reader,signing.existingSecret=key"


@pytest.fixture(scope="module")
def rendered(helm):
    """`rendered(VALUES)`: objects by kind and name."""

    @cache
    def objects(values=""):
        done = helm("template", "train", TRAINING, *(("--set", values) if values else ()))
        assert done.returncode == 0, done.stderr
        return {(item["kind"], item["metadata"]["name"]): item for item in parsed(done.stdout)}

    return objects


def container(objects, job):
    """The container of a job."""
    return pod_of(objects["CronJob", f"train-{job}"])["containers"][0]


def test_each_job_is_a_cronjob_that_waits_to_be_submitted(rendered):
    """Named RELEASE-NAME; one that has a schedule runs by itself."""
    objects = rendered("jobs.active-learning.schedule=0 6 * * *")
    suspended = {name: item["spec"]["suspend"] for (kind, name), item in objects.items() if kind == "CronJob"}
    assert suspended == {f"train-{job}": job != "active-learning" for job in JOBS}


def test_a_clouds_role_is_that_of_the_jobs_account(rendered):
    """It may take the place of a Secret with keys."""
    account = rendered(r"accountAnnotations.a\.b/role=writes")["ServiceAccount", "train-job"]
    assert account["metadata"]["annotations"] == {"a.b/role": "writes"}


def test_failures_are_told_apart(rendered):
    """What is wrong for ever ends the Job, a disruption does not count; a run that waits for outlines ends well."""
    for job in JOBS:
        spec = rendered()["CronJob", f"train-{job}"]["spec"]["jobTemplate"]["spec"]
        fails, ignored = spec["podFailurePolicy"]["rules"]
        assert fails["action"] == "FailJob"
        assert fails["onExitCodes"]["values"] == [ExitCode.BAD_CONFIGURATION, ExitCode.STORE_UNWRITABLE]
        assert ignored["action"] == "Ignore"
        assert spec["podReplacementPolicy"] == "Failed", "two pods would write one run"
        assert spec["template"]["spec"]["restartPolicy"] == "Never"
        told = {e["name"]: e.get("value") for e in spec["template"]["spec"]["containers"][0]["env"]}
        assert (told["TRAINING_WAITING_EXIT_CODE"], told["TRAINING_OUTCOME_FILE"]) == ("0", "/dev/termination-log")


def test_only_who_publishes_may_write_and_sign(rendered):
    """Others read the store, or have no key of it at all."""
    objects = rendered(ON_S3)
    secrets = {
        job: {e["valueFrom"]["secretKeyRef"]["name"] for e in container(objects, job)["env"] if "valueFrom" in e}
        for job in JOBS
    }
    nothing = {job: set() for job in JOBS}
    assert secrets == nothing | {"publish": {"writer"}, "hands": {"reader"}, "transfer": {"reader"}}
    mounted = {job for job in JOBS for v in container(objects, job)["volumeMounts"] if v["name"] == "signing"}
    assert mounted == {"publish"}
    assert "signing_key: $SIGNING_KEY" in objects["ConfigMap", "train-publish"]["data"]["config.yaml"]


def test_a_store_on_a_volume_can_be_written_by_publish_alone(rendered):
    """The same, by mounts."""
    objects = rendered()
    mounts = {
        job: volume["readOnly"] for job in JOBS for volume in container(objects, job)["volumeMounts"]
        if volume["name"] == "store"
    }  # fmt: skip
    assert mounts == {"publish": False, "hands": True, "transfer": True}
    assert all({"name": "data", "mountPath": "/data", "readOnly": True} in container(objects, job)["volumeMounts"]
               for job in JOBS)  # fmt: skip


def test_a_job_on_several_nodes_finds_its_first_pod_and_nobody_else(rendered):
    """Indexed, with names by a headless Service, and a policy that lets its pods call each other."""
    objects = rendered("jobs.transfer.nodes=2,jobs.transfer.processesPerNode=4")
    spec = objects["CronJob", "train-transfer"]["spec"]["jobTemplate"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    service = objects["Service", "train-transfer"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    labels = spec["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert spec["template"]["spec"]["subdomain"] == "train-transfer"
    assert "$(JOB_NAME)-0.train-transfer" in container(objects, "transfer")["command"]
    policy = objects["NetworkPolicy", "train-job-nodes"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    others = objects["CronJob", "train-hands"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert not policy["podSelector"]["matchLabels"].items() <= others.items()


def test_jobs_reach_what_the_arrows_say(rendered):
    """The store, the name server and Label Studio, each only where it is there; nobody reaches a job."""
    arrows = yaml.safe_load((SERVING / "arrows.yaml").read_text())["arrows"]
    drawn = {arrow["to"] for arrow in arrows if arrow["from"] in {"job", "all"}}
    assert drawn == {"store", "label-studio", "dns"}
    everything = f"{ON_S3},labelStudio.enabled=true,labelStudio.image.repository=ls"
    policy = rendered(everything)["NetworkPolicy", "train-job"]["spec"]
    assert "ingress" not in policy
    assert sorted(rule["ports"][0]["port"] for rule in policy["egress"]) == [53, 443, 8080]
    assert [rule["ports"][0]["port"] for rule in rendered()["NetworkPolicy", "train-job"]["spec"]["egress"]] == [53]
    elsewhere = rendered("labelStudio.tokenSecret=token")["NetworkPolicy", "train-job"]["spec"]
    assert sorted(rule["ports"][0]["port"] for rule in elsewhere["egress"]) == [53, 443]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("jobs.tranfer.nodes=2", "'/jobs/tranfer': missing property 'module'"),
        ("jobs.transfer.node=2", "'/jobs/transfer': additional properties 'node'"),
        ("jobs.transfer.roles={write}", "/jobs/transfer/roles/0"),
        ("labelStudio.enable=true", "additional properties 'enable'"),
        ("labelStudio.enabled=true", "labelStudio.enabled needs an image"),
        ("jobs.one-that-is-named-at-length.module=x", "at most 15 characters"),
    ],
)
def test_what_is_wrong_in_the_values_is_told(helm, values, told):
    """By the schema, and by a sentence where a schema cannot know."""
    done = helm("template", "train", TRAINING, "--set", values)
    assert done.returncode != 0
    assert told in done.stderr


def test_a_job_can_be_left_out_and_another_added(rendered):
    """The jobs are one range over a table."""
    objects = rendered("jobs.study=null,jobs.labels.module=label_study,jobs.labels.config.seeds={1}")
    assert ("CronJob", "train-study") not in objects
    assert container(objects, "labels")["command"][2] == "training.jobs.label_study"
