"""The job that publishes, as a command: what cannot be published is said before an hour is spent on it."""

import os
import subprocess
import sys

import pytest
import yaml

pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.run.exits import ExitCode


def publish(tmp_path, **changes):
    """How the command ends with this configuration."""
    values = {
        "dataset": {"images": "none", "labels": "none.csv"}, "masks": "none", "hands": "none",
        "store": str(tmp_path / "store"), "work": str(tmp_path / "work"), "release": "2031.1.1",
        "versions": {"hand_segmenter": 1, "radiograph_enhancer": 1, "boneage_regressor": 1},
        "segmenter": "s.pt", "enhancer": "e.pt", "regressor": ["r.pt"], "backbone": "resnet18", "trained_with": {},
        "maximum_structure_change": 0.45, "maximum_interval_width_months": 90, "refused_share": 0.001,
        "turned_share": 0.005, "fitting_images": 10, "seed": 1,
    } | changes  # fmt: skip
    path = tmp_path / "publish.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "training.jobs.publish", "--config", str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_a_release_that_exists_is_left_as_it_is(tmp_path):
    """Releases never change: the job ends before it reads anything, and says which one is in the way."""
    manifest = tmp_path / "store" / "releases" / "2031.1.1.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    done = publish(tmp_path)
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert "release 2031.1.1 is in" in done.stderr
    assert manifest.read_text() == "{}"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changes", "named"), [({"regressor": []}, "regressor"), ({"seeds": 1}, "seeds"), ({"seed": None}, "seed")]
)
def test_a_wrong_configuration_is_named(tmp_path, changes, named):
    """No runs to average, a key that there is none of, no seed: each ends at once with the key in the message."""
    done = publish(tmp_path, **changes)
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert named in done.stderr
