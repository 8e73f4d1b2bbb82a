"""The walk through data of one's own, as its page has it: from drawn radiographs to a release that answers."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from string import Template

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from services.core.adapters.model_repository import ModelRepository, model_file  # noqa: E402
from services.core.domain.contracts import REGRESSOR, SEGMENTER  # noqa: E402
from services.core.runtime.settings import EMBEDDED_REPOSITORY  # noqa: E402
from training.data.phantom import draw_parameters, render  # noqa: E402

PAGE = Path("docs/own-data.md").read_text()
COUNT, OUTLINED, SCORED, HEIGHT_PX = 124, 8, 3, 320
TIMEOUT_S = 240
EMBEDDED = {
    name: str(model_file(EMBEDDED_REPOSITORY, name, number).resolve())
    for name, number in ModelRepository(EMBEDDED_REPOSITORY).get().models.items()
}
SMALLER = {
    "split.yaml": {"shares": {"train": 0.05, "validation": 0.05, "calibration": 0.85, "test": 0.05}},
    "segmenter.yaml": {
        "start_from": EMBEDDED[SEGMENTER], "selection_images": 2, "validate_every": 2,
        "phases": [{"size_px": 64, "steps": 2, "batch_size": 2, "learning_rate": 1e-6}],
    },
    "enhancer.yaml": {
        "gold_standard_images": 8, "selection_images": 4, "steps": 2, "batch_size": 2, "validate_every": 2,
    },
    "regressor.yaml": {
        "start_from": EMBEDDED[REGRESSOR], "fitting": {"batch_size": 8, "validate_every": 16, "seed": 1},
        "stages": [{"trainable": trainable, "images": 16, "learning_rate": 1e-4} for trainable in ([], ["exit"])],
    },
    "publish.yaml": {"fitting_images": 2},
}  # fmt: skip
"""What makes each job short; all else is the page's."""
SERVING = re.compile(
    r"^    BONEAGE_MODEL_REPOSITORY=(\S+) boneage (serve)\n\n    BONEAGE_MODEL_REPOSITORY=\1 boneage (.*\\\n.*)$",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Drawn radiographs where the page says that they lie, some of them outlined, and what names the place."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    for name in ("wrists", "masks/image", "masks/mask"):
        (folder / name).mkdir(parents=True)
    known = ["case,months,sex,patient"]
    for number in range(COUNT):
        sex = ("female", "male")[number % 2]
        parameters = draw_parameters(rng, age_months=float(rng.uniform(30, 200)), sex=sex)
        phantom = render(parameters, height_px=HEIGHT_PX)
        known.append(f"{number},{parameters.age_months:.0f},{sex[0].upper()},p{number}")
        picture = np.rint(phantom.pixels * 255).astype(np.uint8)
        cv2.imwrite(str(folder / "wrists" / f"{number}.png"), picture)
        if number < OUTLINED:
            cv2.imwrite(str(folder / "masks/image" / f"{number}.png"), picture)
            cv2.imwrite(str(folder / "masks/mask" / f"{number}.png"), np.uint8(255) * phantom.mask)
    (folder / "wrists.csv").write_text("\n".join(known))
    for name, count in (("outlined", OUTLINED), ("outlined-test", SCORED)):
        (folder / f"{name}.csv").write_text("\n".join(["id", *map(str, range(count))]))
    own = {key: value for key, value in os.environ.items() if not key.startswith("BONEAGE_")}
    places = {"RADIOGRAPHS": folder, "RUNS": folder / "runs", "STORE": folder / "store"}
    return own | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | {k: str(v) for k, v in places.items()}


def test_the_page_leads_from_radiographs_to_a_release_that_answers(environment, tmp_path):
    """Every job of the page in its order, with its files but fewer steps; then what serves, and how good it is."""
    files = dict(re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", PAGE, re.DOTALL))
    jobs = re.findall(r"`python -m (training\.jobs\.\w+) --config (\S+\.yaml)`", PAGE)
    assert sorted(name for _, name in jobs) == sorted(files)
    for module, name in jobs:
        (tmp_path / name).write_text(yaml.safe_dump(yaml.safe_load(files[name]) | SMALLER.get(name, {})))
        command = [sys.executable, "-m", module, "--config", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"

    repository, serve, evaluate = re.search(SERVING, PAGE).groups()
    serving = environment | {"BONEAGE_MODEL_REPOSITORY": Template(repository).substitute(environment)}
    boneage = [sys.executable, "-m", "services.cli"]
    with subprocess.Popen(
        [*boneage, serve, "--port", "0"], env=serving, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            address = next(line.split()[5] for line in server.stdout if line.startswith("assess with:"))
            said = Template(evaluate.replace("\\\n", " ").replace("localhost:50051", address)).substitute(environment)
            command = [*boneage, *shlex.split(said), "--json"]
            done = subprocess.run(command, env=serving, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["release"] == "wrists-1"
    parts = Path(environment["RADIOGRAPHS"], "split.csv").read_text().splitlines()
    assert figures["n_total"] == sum(row.endswith(",test") for row in parts) > 0
    assert figures["failed"] == 0
