"""The configurations that releases and studies are made with: their jobs take them, and each finds its inputs."""

import re
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.jobs.command import JobConfig, read_config  # noqa: E402
from training.jobs.enhancement_study import EnhancementStudyConfig  # noqa: E402
from training.jobs.enhancer import EnhancerConfig  # noqa: E402
from training.jobs.hands import HandsConfig  # noqa: E402
from training.jobs.label_study import LabelStudyConfig  # noqa: E402
from training.jobs.publish_config import PublishConfig  # noqa: E402
from training.jobs.segmenter import SegmenterConfig  # noqa: E402
from training.jobs.split import SplitConfig  # noqa: E402
from training.jobs.study import StudyConfig  # noqa: E402
from training.jobs.transfer import TransferConfig  # noqa: E402

FOLDER = Path("training/configs")
SHIPPED = sorted(FOLDER.glob("*.yaml"))
KINDS: dict[str, type[JobConfig]] = {
    "enhancement_study": EnhancementStudyConfig, "label_study": LabelStudyConfig, "study": StudyConfig,
    "split": SplitConfig, "hands": HandsConfig, "segmenter": SegmenterConfig, "enhancer": EnhancerConfig,
    "publish": PublishConfig, "calibrate": PublishConfig,
    "regressor": TransferConfig, "xception": TransferConfig, "sex": TransferConfig,
    "prefix_cache": TransferConfig,
}  # fmt: skip
GIVEN = {"imagenet", "store"}
"""Folders of $RUNS that no job makes: the documentation says how they come about."""
RESULTS = {"weights.pt", "gate.json"}
OUTPUTS = ("out", "work", "kept")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_its_job_takes_it(path, monkeypatch):
    """Every key is known, every value possible."""
    monkeypatch.setenv("RADIOGRAPHS", "/radiographs")
    monkeypatch.setenv("RUNS", "/runs")
    kind = next(kind for prefix, kind in KINDS.items() if path.stem.startswith(prefix))
    assert read_config(kind, path).model_dump(mode="json")


def test_every_input_is_what_another_makes():
    """Runs follow each other: what one starts from is a result of another, under its very name."""
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in SHIPPED}
    made = {Path(config["out"]).parts[1] for config in configs.values() if "$RUNS" in str(config.get("out"))}
    assert len(made) > 10
    for name, config in configs.items():
        inputs = yaml.safe_dump({key: value for key, value in config.items() if key not in OUTPUTS})
        for place in re.findall(r"\$RUNS/([\w./-]+)", inputs):
            folder, *file = Path(place).parts
            assert folder in made | GIVEN, f"{name}: nothing makes {place}"
            assert folder in GIVEN or not file or file[0] in RESULTS, f"{name}: {place} is no result"


def test_the_walk_through_names_one_whole_file_for_each_job(tmp_path, monkeypatch):
    """Each of its files is what the job takes, and what one starts from is made by another before it."""
    for name in ("RADIOGRAPHS", "RUNS", "STORE"):
        monkeypatch.setenv(name, f"/{name.lower()}")
    blocks = re.findall(r"```yaml\n# (\S+)\.yaml\n(.*?)```", Path("docs/own-data.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    made = set()
    for name, text in blocks:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        kind = next(kind for prefix, kind in KINDS.items() if name.startswith(prefix))
        values = read_config(kind, path).model_dump(mode="json")
        inputs = yaml.safe_dump({key: value for key, value in values.items() if key not in OUTPUTS})
        assert set(re.findall(r"/runs/([\w-]+)", inputs)) <= made
        made |= {Path(values[key]).name for key in OUTPUTS if values.get(key)}
