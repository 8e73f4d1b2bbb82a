"""The configurations that the training chart comes with are such that their jobs take them."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.jobs.command import JobConfig, read_config  # noqa: E402

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/boneage-training"


@pytest.fixture(scope="module")
def helm():
    """Where helm is."""
    own = ROOT / ".helm/helm"
    found = os.environ.get("HELM") or (str(own) if own.exists() else shutil.which("helm"))
    if not found:
        pytest.skip("there is no helm; `make helm` installs it")
    return found


def config_class(module):
    """What a job's configuration is read as."""
    job = importlib.import_module(f"training.jobs.{module}")
    own = [v for v in vars(job).values() if isinstance(v, type) and v.__module__.startswith(job.__name__)]
    (kind,) = (v for v in own if issubclass(v, JobConfig) and v.__name__.removesuffix("Config").lower() in
               module.replace("_", ""))  # fmt: skip
    return kind


@pytest.mark.parametrize("values", [CHART / "examples" / case / "values.yaml" for case in ("minimal", "kueue")],
                         ids=lambda path: path.parent.name)  # fmt: skip
def test_every_job_takes_its_configuration(helm, values, tmp_path, monkeypatch):
    """With what the chart mounts and says in the environment; only a release's number is the submitter's."""
    for name, value in {"RADIOGRAPHS": "/data", "RUNS": "/work", "STORE": "/srv/store", "SIGNING_KEY": "/key"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", "token")
    done = subprocess.run([helm, "template", CHART, "-f", values], capture_output=True, text=True, check=True)
    jobs = yaml.safe_load((CHART / "values.yaml").read_text())["jobs"]
    configs = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item["data"]["config.yaml"]
        for item in yaml.safe_load_all(done.stdout)
        if item and item["kind"] == "ConfigMap"
    }
    assert configs.keys() == jobs.keys()
    for name, config in configs.items():
        (tmp_path / f"{name}.yaml").write_text(config)
        read_config(config_class(jobs[name]["module"]), tmp_path / f"{name}.yaml")
