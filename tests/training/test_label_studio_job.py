"""Active learning through a real Label Studio: the job asks, people answer, the next round learns and asks again."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.label_studio import TOKEN, label_studio  # noqa: E402
from tests.training.ellipses import draw_ellipses, leave_outlines  # noqa: E402
from training.active_learning.brush import decode_mask, encode_mask  # noqa: E402
from training.active_learning.label_studio import BRUSH, LABEL, PICTURE  # noqa: E402
from training.data.masks import read_masks  # noqa: E402
from training.run.exits import ExitCode  # noqa: E402

COUNT = 8
PATIENCE_S = 300
PROJECT = "hands"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server."""
    with label_studio(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@pytest.fixture
def project(tmp_path):
    """Eight ellipses in noise, one selects, one tests, the others may be asked."""
    return draw_ellipses(tmp_path, COUNT, selection=(0,), test=(1,))


def job(project, server):
    """One run of the job, to its end."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    values = {
        "dataset": dataset, "masks": str(project / "masks"), "selection": str(project / "selection.csv"),
        "test": str(project / "test.csv"), "out": str(project / "out"),
        "oracle": {"kind": "label_studio", "url": server.url, "project": PROJECT},
        "plan": {
            "strategy": "committee", "members": 2, "start": 2, "per_round": 2, "maximum_labels": 4, "patience": 9,
            "phases": [{"size_px": 64, "steps": 1, "batch_size": 2, "learning_rate": 0.001}], "validate_every": 1,
            "seed": 1, "size_px": 64,
        },
    }  # fmt: skip
    (project / "job.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "training.jobs.active_learning", "--config", str(project / "job.yaml")]
    environment = os.environ | {"LABEL_STUDIO_TOKEN": TOKEN}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def tasks_of(server):
    """The tasks that were made, by id."""
    (project,) = [p for p in server.call("GET", "/api/projects/")["results"] if p["title"] == PROJECT]
    listed = server.call("GET", f"/api/tasks/?project={project['id']}")["tasks"]
    return {task["data"]["id"]: server.call("GET", f"/api/tasks/{task['id']}/") for task in listed}


def answer(server, task, mask):
    """One outline, as the browser submits it."""
    stroke = {
        "type": "brushlabels", "from_name": BRUSH, "to_name": PICTURE, "original_width": mask.shape[1],
        "original_height": mask.shape[0], "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_mask(mask), "brushlabels": [LABEL]},
    }  # fmt: skip
    server.call("POST", f"/api/tasks/{task['id']}/annotations/", {"result": [stroke], "was_cancelled": False})


def test_the_job_asks_waits_learns_from_the_answers_and_asks_again(server, project):
    """Round by round until the budget is spent: what people drew is what is learnt, what is asked next was found."""
    true = {pair.id: pair.mask for pair in read_masks(project / "masks", {})}
    leave_outlines(project, ("0", "1"))
    asked = job(project, server)
    assert asked.returncode == ExitCode.WAITING_FOR_LABELS, asked.stderr
    assert "2 outlines are awaited" in asked.stderr
    first = tasks_of(server)
    assert len(first) == 2
    assert not {"0", "1"} & set(first)

    one, other = sorted(first)
    answer(server, first[one], true[one])
    waiting = job(project, server)
    assert waiting.returncode == ExitCode.WAITING_FOR_LABELS, waiting.stderr
    assert f"1 outlines are awaited: {other}" in waiting.stderr
    assert not (project / "out" / "round-00" / "figures.json").exists()

    answer(server, first[other], true[other])
    learnt = job(project, server)
    assert learnt.returncode == 0, learnt.stderr
    for id_ in first:
        kept = cv2.imread(str(project / "out" / "outlines" / f"{id_}.png"), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(kept > 0, true[id_])
    second = {id_: task for id_, task in tasks_of(server).items() if id_ not in first}
    assert sorted(second) == sorted((project / "out" / "round-00" / "query.csv").read_text().split()[1:])
    for id_, task in second.items():
        (prediction,) = task["predictions"]
        for stroke in prediction["result"]:
            height, width = stroke["original_height"], stroke["original_width"]
            assert decode_mask(stroke["value"]["rle"], height=height, width=width).shape == true[id_].shape
        answer(server, task, true[id_])

    ended = job(project, server)
    assert ended.returncode == 0, ended.stderr
    figures = [json.loads(path.read_text()) for path in sorted((project / "out").glob("round-*/figures.json"))]
    assert [(entry["labels"], entry["converged"]) for entry in figures] == [(2, False), (4, True)]
    assert len((project / "out" / "answers.csv").read_text().split()) == 1 + 4
    assert len(tasks_of(server)) == 4
