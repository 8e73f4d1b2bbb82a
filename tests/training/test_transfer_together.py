"""Transfer learning by several processes and on several machines: what one alone learns, one network, one outcome."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.cli import jobs_objects  # noqa: E402
from tests.ports import LOOPBACK, free_port  # noqa: E402
from tests.training.staged import BACKBONE, taught  # noqa: E402
from tests.training.two_classes import PATIENCE_S, config, discs, ended, weights  # noqa: E402
from training.jobs.together import TELLING  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.transfer.devices import Device  # noqa: E402

STAGED = Path(__file__).with_name("staged.py")


@pytest.fixture
def project(tmp_path):
    """Images of two classes, their table and split, prepared."""
    return discs(tmp_path)


def together(path, *options):
    """The command line of several processes."""
    return [sys.executable, "-m", "training.jobs.together", *options, "transfer", "--config", str(path)]


@pytest.mark.parametrize(
    ("backbone", "trainable"), [(BACKBONE, []), ("test_convnext", ["exit", "middle", "entry"])], ids=["head", "all"]
)
def test_two_machines_learn_what_one_does(project, backbone, trainable):
    """As on two nodes, each with a process on CPU: each takes half of a batch, gradients are averaged.

    Where batch norms learn too, halves of a batch are not what the whole is: all flows are those of a network without.
    """
    stages = [{"trainable": trainable, "images": 64, "learning_rate": 0.003}]
    one = config(project, backbone=backbone, stages=stages, out=str(project / "one"))
    two = config(project, backbone=backbone, stages=stages, out=str(project / "two"))
    hardly = [stages[0] | {"learning_rate": 1e-12}]
    still = config(project, backbone=backbone, stages=hardly, out=str(project / "still"))
    assert ended(still).returncode == 0
    assert ended(one).returncode == 0
    where = ("--nodes", "2", "--first-node", LOOPBACK, "--port", str(free_port()), "--node")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [subprocess.Popen(together(two, *where, node), env=environment) for node in ("0", "1")]
    assert [node.wait(PATIENCE_S) for node in nodes] == [0, 0]
    begun, alone, shared = (weights(project / name) for name in ("still", "one", "two"))
    learnt = [name for name in begun if name.startswith("head.") or trainable]
    for name in learnt:
        moved = float((alone[name] - begun[name]).norm())
        assert moved > 0, name
        assert float((alone[name] - shared[name]).norm()) < moved / 50, name  # the order of sums differs, nothing else


def test_processes_that_train_together_have_one_network(tmp_path):
    """Batch norms that each sees half of, and patience that ends stages: all go on alike, to the same bytes.

    Each had half of the images read by the teacher; together they have what it says of all.
    """
    torch.manual_seed(5)
    torch.save({"model": TransferNetwork(BACKBONE, 3).state_dict()}, tmp_path / "teacher.pt")
    python = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, str(STAGED), str(tmp_path)], check=True, timeout=PATIENCE_S, env=environment)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first["network"][name], value) for name, value in second["network"].items())
    read = [[(r["stage"], r.get("validation_mae_months")) for r in each["reports"]] for each in (first, second)]
    assert read[0] == read[1]
    assert len(read[0]) < 80, "patience ended no stage"
    alone = taught(tmp_path, Device("cpu", "fp32")).outputs
    assert alone.std() > 0
    for each in (first, second):
        np.testing.assert_allclose(each["said"], alone, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "taught-by-2" / "lessons").iterdir()) == ["rank-0", "rank-1"]


def test_processes_that_train_together_end_as_the_job_does(project):
    """A wrong configuration is one, however many processes find it; the first of them tells how it ended."""
    told = project / "outcome.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRAINING_OUTCOME_FILE": str(told)}
    wrong = together(config(project, backbone="xceptoin"), "--processes", "2")
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment)
    assert done.returncode == 64
    assert json.loads(told.read_text())["outcome"] == "bad configuration"


def test_a_job_that_shares_nothing_is_not_done_by_several(project):
    """Each would do all of it, in one folder."""
    refused = subprocess.run(
        [sys.executable, "-m", "training.jobs.together", "--processes", "2", "enhancer", "--config", "none.yaml"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=project,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert refused.returncode == 64
    assert "enhancer shares no work between processes; transfer does" in refused.stderr


def test_the_command_line_chooses_among_pods_as_is_done_among_processes():
    """Serving, which installs no training, has its copy of the order."""
    assert tuple(code.outcome for code in TELLING) == jobs_objects.TELLING
