"""A training Job's release comes to answer by itself, one that learnt nonsense does not, and labels are waited for."""

import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pytest

from tests.cluster.conftest import phase
from tests.cluster.kube import ROOT, Cluster, Done, run
from tests.cluster.small_set import main as draw_small_set
from tests.cluster.system import CLIENTS, TRAINING, TRAINING_CHART, System, until
from tests.conftest import radiographs_folder
from training.run.exits import ExitCode

CONFIGS: Final = ROOT / "tests/cluster/configs"
CHART_NAME: Final = "training"
OUTLINED: Final = 4
"""Outlines that the active learning begins with: for choosing weights, and for measuring."""


@dataclass(frozen=True, slots=True)
class Training:
    """The training chart beside the serving one, and `boneage jobs`."""

    system: System
    node: str

    def install(self, *options: str) -> None:
        """Install or upgrade the chart; jobs run on the node that has their image."""
        where = (f"--set=defaults.image.tag={self.system.image_tag}",
                 f"--set=defaults.nodeSelector.kubernetes\\.io/hostname={self.node}")  # fmt: skip
        values = [ROOT / "tests/cluster/values/training.yaml"]
        done = self.cluster.install(CHART_NAME, TRAINING_CHART, TRAINING, *where, *options, values=values)
        assert not done.code, done.said

    @property
    def cluster(self) -> Cluster:
        """Where it runs."""
        return self.system.cluster

    def jobs(self, *arguments: str, check: bool = True, timeout_s: float = 420) -> Done:
        """`boneage jobs`, to its end."""
        return run(*self.command(*arguments), check=check, timeout_s=timeout_s)

    def command(self, *arguments: str) -> list[str]:
        """Its command line."""
        return [sys.executable, "-m", "services.cli", "jobs", *arguments, "--namespace", TRAINING]

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """`boneage jobs` beside the test."""
        return subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )

    def pods(self, job: str) -> list[dict[str, Any]]:
        """Pods of the Jobs of this kind, oldest first."""
        found = [
            p for p in self.cluster.items("pod", TRAINING) if p["metadata"]["name"].startswith(f"{CHART_NAME}-{job}")
        ]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def file(self, path: str) -> str:
        """A file of the claim that jobs write to; empty where it is not there."""
        done = self.cluster("exec", "files", "-n", TRAINING, "--", "cat", path, check=False)
        return "" if done.code else done.output

    def put(self, folder: Path, place: str) -> None:
        """Copy a folder into a claim, by the pod that holds all of them."""
        command = (self.cluster.kubectl, "exec", "-i", "files", "-n", TRAINING, "--", "tar", "-x", "-C", place)
        with subprocess.Popen(command, stdin=subprocess.PIPE) as unpacking:
            assert unpacking.stdin is not None
            with tarfile.open(fileobj=unpacking.stdin, mode="w|") as archive:
                for path in sorted(folder.iterdir()):  # the folder itself is the claim's, and not ours to change
                    archive.add(path, arcname=path.name, filter=_anybody)
            unpacking.stdin.close()
            assert unpacking.wait(timeout=120) == 0

    def outcome(self, release: str) -> str:
        """What became of a release, and why."""
        found = json.loads(self.system.releases("list", "--json"))["releases"]
        told = {
            one["id"]: (one["status"].removeprefix("RELEASE_STATUS_").lower(), one.get("reason", "")) for one in found
        }
        return ": ".join(told.get(release, ()))

    def decided(self, release: str) -> str:
        """The same once it has been let in or refused, whichever comes."""

        def told() -> str:
            found = self.outcome(release)
            return found if found.startswith(("current", "refused")) else ""

        return str(until(told, timeout_s=300, what=f"{release} current or refused"))


def _anybody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode, entry.mtime = (0o755 if entry.isdir() else 0o644), 0
    return entry


@pytest.fixture(scope="module")
def training(serving: System, training_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """Both charts, new releases rolled out by themselves, and the prepared hands of a small set of real radiographs."""
    made = Training(serving, training_image)
    folder = tmp_path_factory.mktemp("small") / "set"
    draw_small_set(radiographs_folder(), folder)
    outlines(radiographs_folder() / "hand-masks", folder)
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "radiographs", "namespace": TRAINING}
    serving.cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    made.install()
    mounts = {
        "/data": {"persistentVolumeClaim": {"claimName": "radiographs"}},
        "/work": {"persistentVolumeClaim": {"claimName": f"{CHART_NAME}-work"}},
    }
    serving.pod("files", TRAINING, "sleep", "86400", mounts=mounts, node=training_image)
    made.put(folder, "/data")
    serving.install("s3", "triton", options=("--set=rollout.automatic=true",))
    serving.ready()
    with phase("prepare hands"):
        made.jobs("submit", "hands", "--config", str(CONFIGS / "hands.yaml"))
    serving.start_client(serving.cluster.nodes[0])
    yield made
    serving.cluster("delete", "pod", "steady", "-n", CLIENTS)


def outlines(source: Path, folder: Path) -> None:
    """Two outlined radiographs to choose weights by and two to measure, as the active learning begins with."""
    names = sorted(path.stem for path in (source / "mask").glob("*.png"))[:OUTLINED]
    for kind in ("image", "mask"):
        (folder / "outlined" / kind).mkdir(parents=True)
        for name in names:
            (folder / "outlined" / kind / f"{name}.png").write_bytes((source / kind / f"{name}.png").read_bytes())
    for part, chosen in (("selection", names[:2]), ("test", names[2:])):
        (folder / f"{part}.csv").write_text("".join(f"{name}\n" for name in ("id", *chosen)))


def test_a_release_of_a_job_that_was_killed_comes_to_answer(training: Training) -> None:
    """Its pod is deleted in the middle; it goes on, publishes, and the gate lets it in, without a failed call."""
    system, since = training.system, time.time()
    before = json.loads(system.releases("list", "--json"))["routing"]["current"]
    with phase("fine-tune, killed in the middle"):
        following = training.started("submit", "transfer", "--config", str(CONFIGS / "transfer.yaml"))
        until(lambda: _steps(training) >= 20, timeout_s=180, what="some steps", every_s=1)
        first = training.pods("transfer")[-1]["metadata"]["name"]
        training.cluster("delete", "pod", first, "-n", TRAINING, "--wait=false")
        said = following.communicate(timeout=240)[0]
        assert following.returncode == 0, said
        second = training.pods("transfer")[-1]["metadata"]["name"]
        assert second != first
    went_on = training.cluster("logs", second, "-n", TRAINING).output
    first_step = next(int(found[1]) for line in went_on.splitlines() if (found := re.search(r"(\d+) of \d+", line)))
    assert first_step > 20, f"the second pod began anew, or nearly: {went_on[:300]}"
    with phase("publish"):
        training.jobs("submit", "publish", "--config", str(CONFIGS / "publish.yaml"))
    with phase("shadow, canary, promote"):
        decided = training.decided("2031.1.1")
    assert decided.startswith("current"), decided
    until(lambda: system.calls(since)[-1].release == "2031.1.1", timeout_s=60, what="a call that names it")
    system.releases("rollback", "--reason", "to try it")
    rolled = time.time()
    until(lambda: len(system.calls(rolled)) > 2, timeout_s=60, what="calls after the rollback")
    assert {call.release for call in system.calls(rolled) if not call.failed} == {before}
    assert [call for call in system.calls(since) if call.failed] == []


def _steps(training: Training) -> int:
    """The last step that the run has logged, of those that it logs."""
    rows = [json.loads(line) for line in training.file("/work/regressor/log.jsonl").splitlines()]
    return max((int(row["step"]) for row in rows), default=0)


def test_a_release_that_learnt_nonsense_is_refused(training: Training) -> None:
    """Trained on shuffled ages and published alike: the same gate stops it, and says why."""
    system, since = training.system, time.time()
    labels = ("--set", "source.dataset.labels=$RADIOGRAPHS/shuffled.csv", "--set", "out=$RUNS/nonsense")
    more = ("--set", 'stages=[{"trainable": [], "images": 1600, "learning_rate": 0.02, "copies": 4, "cached": true}]')
    with phase("train on shuffled ages"):
        training.jobs("submit", "transfer", "--config", str(CONFIGS / "transfer.yaml"), *labels, *more)
    publish = ("--set", "dataset.labels=$RADIOGRAPHS/shuffled.csv", "--set", "reader=[$RUNS/nonsense/weights.pt]",
               "--set", "work=$RUNS/nonsense-publish", "--set", "release=2031.1.2",
               "--set", "trained_with.boneage_regressor=[$RUNS/nonsense/config.yaml]")  # fmt: skip
    with phase("publish nonsense"):
        training.jobs("submit", "publish", "--config", str(CONFIGS / "publish.yaml"), *publish)
    with phase("refused by the gate"):
        reason = training.decided("2031.1.2")
    assert reason.startswith("refused")
    assert "months" in reason
    assert "months" in system.releases("show", "2031.1.2")
    assert {call.release for call in system.calls(since) if not call.failed} == {system.calls(since)[0].release}
    assert [call for call in system.calls(since) if call.failed] == []


def test_active_learning_goes_on_once_the_labels_are_there(training: Training) -> None:
    """A job asks and waits, and the next run, which the schedule starts, learns from what has come in between."""
    with phase("active learning asks"):
        assert training.jobs("submit", "active-learning", check=False).code == ExitCode.WAITING_FOR_LABELS
    assert "waiting" in training.jobs("list").output
    for name in _asked(training):
        answer(training, name)
    with phase("active learning goes on"):
        training.install("--set=jobs.active-learning.schedule=* * * * *")
        until(lambda: training.file("/work/outlines/round-00/figures.json"), timeout_s=240, what="a round")
        training.install()
        training.cluster("delete", "job", "--all", "-n", TRAINING)  # the next one that the schedule has begun
    assert json.loads(training.file("/work/outlines/round-00/figures.json"))["labels"] == 2


def _asked(training: Training) -> list[str]:
    found = training.cluster("exec", "files", "-n", TRAINING, "--", "ls", "/work/exchange/questions").output
    return sorted({name.split(".")[0] for name in found.split()})


def answer(training: Training, name: str) -> None:
    """An outline of a radiograph, as a person would hand it in: here an ellipse."""
    mask = cv2.ellipse(np.zeros((299, 299), np.uint8), (150, 150), (90, 130), 0, 0, 360, 255, -1)
    _, content = cv2.imencode(".png", mask)
    program = f"import sys; open('/work/exchange/answers/{name}.png', 'wb').write(sys.stdin.buffer.read())"
    subprocess.run(
        [training.cluster.kubectl, "exec", "-i", "files", "-n", TRAINING, "--", "python", "-c", program],
        input=content.tobytes(), check=True, timeout=60,
    )  # fmt: skip
