"""The job that trains a segmenter: it learns, goes on after a kill to the same weights, and says what is wrong."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.kills import kill_at_random, undisturbed  # noqa: E402
from training.active_learning.learner import Outlines, Phase, SegmenterLearner, mean_dice, new_network  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.data.split import MASK_TEST_CSV  # noqa: E402
from training.jobs.command import read_config  # noqa: E402
from training.jobs.segmenter import SegmenterConfig, run  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.run.journal import read_journal  # noqa: E402

PATIENCE_S = 300


@pytest.fixture
def project(tmp_path):
    """Eight outlined bright ellipses, four more without an outline, one broken."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks/image", "masks/mask"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((96, 80), np.uint8)
        cv2.ellipse(mask, (40, 48), (int(rng.integers(14, 25)), int(rng.integers(25, 40))), 10, 0, 360, 255, -1)
        picture = np.clip(np.where(mask > 0, 170, 30) + rng.normal(0, 8, mask.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
        if number < 8:
            cv2.imwrite(str(tmp_path / "masks/image" / f"{number}.png"), picture)
            cv2.imwrite(str(tmp_path / "masks/mask" / f"{number}.png"), mask)
    (tmp_path / "images" / "11.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text("\n".join(["id,boneage,male", *(f"{i},100,True" for i in range(12))]) + "\n")
    (tmp_path / "split.csv").write_text("\n".join(["id,part", *(f"{i},train" for i in range(12))]) + "\n")
    (tmp_path / "never.csv").write_text("id\n0\n9\n")  # of the latter the outline is not there yet
    return tmp_path


def command(project, **changes):
    """The job's command line."""
    dataset = {name: str(project / file) for name, file in
               (("images", "images"), ("labels", "labels.csv"), ("split", "split.csv"))}  # fmt: skip
    values = {
        "dataset": dataset, "masks": str(project / "masks"), "never_train": str(project / "never.csv"),
        "out": str(project / "out"), "seed": 1, "selection_images": 2, "validate_every": 4,
        "phases": [{"size_px": 32, "steps": 4, "batch_size": 2, "learning_rate": 0.001},
                   {"size_px": 64, "steps": 4, "batch_size": 2, "learning_rate": 0.001}],
    } | changes  # fmt: skip
    path = project / f"{len(list(project.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "training.jobs.segmenter", "--config", str(path)]


def job(project, **changes):
    """The job, to its end."""
    line = command(project, **changes)
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def outlines(count, *, seed=0):
    """Bright squares in the dark."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 64, 64), bool)
    for mask in masks:
        top, left = rng.integers(6, 20, 2)
        mask[top : top + 36, left : left + 28] = True
    images = np.where(masks, 200, 40) + rng.normal(0, 6, masks.shape)
    return Outlines(np.clip(images, 0, 255).astype(np.uint8), masks, np.arange(len(images)))


def test_it_learns():
    """A few dozen steps suffice for bright squares on dark ground, in any pose, exposure and surrounding."""
    learner = SegmenterLearner(
        new_network(0), sources=[outlines(8)], selection=outlines(4, seed=1),
        phases=[Phase(64, 48, 4, 0.004)], validate_every=24, seed=2,
    )  # fmt: skip
    before, _ = mean_dice(learner.network, learner.selection, size_px=64)
    for step in range(1, learner.steps + 1):
        learner.step(step)
    assert learner.score > max(0.85, before + 0.1)


@pytest.mark.parametrize("scenes", [True, False])
def test_a_mask_moves_with_its_hand(scenes):
    """In poses alone what is inside is bright and the rest dark, each time; among scenes it is not, in some."""
    phase = Phase(64, 8, 8, 0.004)
    learner = SegmenterLearner(
        new_network(0), sources=[outlines(8)], selection=outlines(2, seed=1), phases=[phase], validate_every=8, seed=2,
        scenes=scenes,
    )  # fmt: skip
    contrasts = [
        float(image[mask > 0].mean() - image[mask == 0].mean())
        for step in (1, 2, 3, 4)
        for image, mask in zip(*learner.batch(step, phase), strict=True)
        if mask.any()
    ]
    assert len(contrasts) > 24
    assert (min(contrasts) > 0.25) != scenes


def test_the_best_of_a_phase_is_kept_however_it_ends(monkeypatch):
    """The first validation of a phase takes the place of all before it, the others only if they are better."""
    told = iter([0.9, 0.95, 0.5, 0.1])
    monkeypatch.setattr("training.active_learning.learner.mean_dice", lambda *_, **__: (next(told), 0.0))
    learner = SegmenterLearner(
        new_network(0), sources=[outlines(4)], selection=outlines(2, seed=1),
        phases=[Phase(32, 6, 2, 0.002), Phase(32, 3, 2, 0.002)], validate_every=4, seed=2,
    )  # fmt: skip
    for step in range(1, 9):
        learner.step(step)
    best = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    learner.step(9)
    assert learner.score == 0.5
    assert all(torch.equal(tensor, learner.best[name]) for name, tensor in best.items())


def test_resumed_run_ends_with_the_same_weights():
    """A state taken at any step and given to a new learner leads to the same end, to the byte."""

    def learner():
        phases = [Phase(32, 3, 2, 0.002), Phase(64, 3, 2, 0.001)]
        return SegmenterLearner(
            new_network(0), sources=[outlines(4), outlines(3, seed=5)], selection=outlines(2, seed=1), phases=phases,
            validate_every=2, seed=2,
        )  # fmt: skip

    whole = learner()
    states = []
    for step in range(1, 7):
        states.append(io.BytesIO())
        torch.save(whole.state(), states[-1])
        whole.step(step)
    for done in (1, 3, 4):
        resumed = learner()
        states[done].seek(0)
        resumed.restore(torch.load(states[done], weights_only=True))
        for step in range(done + 1, 7):
            resumed.step(step)
        assert all(torch.equal(a, b) for a, b in zip(whole.best.values(), resumed.best.values(), strict=True))
        assert resumed.score == whole.score


def test_killed_at_random_it_ends_with_the_same_weights(project):
    """The same bytes as an undisturbed run; with a checkpoint after every step there is always one to be killed at."""
    seconds = undisturbed(command(project), project / "out" / "tensorboard")
    killed = {"out": str(project / "killed"), "checkpoint_every_s": 0.01}
    kill_at_random(command(project, **killed), project / "killed" / "tensorboard", within_s=seconds, times=2)
    assert job(project, **killed).returncode == 0
    whole, resumed = (torch.load(project / out / "weights.pt", weights_only=True) for out in ("out", "killed"))
    assert whole["selection_dice"] == resumed["selection_dice"]
    assert all(torch.equal(value, resumed["model"][name]) for name, value in whole["model"].items())


def test_an_outline_that_was_corrected_is_learnt_from(project):
    """Not by a run that was begun without: that is refused, with what was kept of the old ones; but by a new one."""
    steps = {"phases": [{"size_px": 32, "steps": 1, "batch_size": 2, "learning_rate": 0.001}]}
    config = read_config(SegmenterConfig, Path(command(project, **steps)[-1]))
    run(config)
    before = Rows.read(project / "out" / "outlines")
    assert before.columns["mask"][before.ids.index("1")].any()
    cv2.imwrite(str(project / "masks/mask/1.png"), np.zeros((96, 80), np.uint8))
    with pytest.raises(BadConfigurationError, match="begun with other outlines than there are now"):
        run(config)
    assert Rows.read(project / "out" / "outlines").made_by == before.made_by
    (project / "out" / "last.pt").unlink()
    run(config)
    after = Rows.read(project / "out" / "outlines")
    assert after.done.all()
    assert not after.columns["mask"][after.ids.index("1")].any()


def test_job_trains_and_then_learns_from_its_own_outlines(project):
    """A first run from people's outlines, a second that adds its own; the broken file is named, not dropped."""
    first = job(project)
    assert first.returncode == 0, first.stderr
    assert (project / "out" / "curves.png").stat().st_size > 1000
    scores = [entry["validation_dice"] for entry in read_journal(project / "out") if "validation_dice" in entry]
    assert len(scores) == 2
    second = job(
        project, out=str(project / "second"), start_from=str(project / "out" / "weights.pt"),
        pseudo_labels={"radiographs": 10, "agreement": 0.0},
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert "1 of 3 radiographs cannot be read: 11" in second.stderr
    assert "9" not in Rows.read(project / "second" / "pseudo-labels").ids
    weights = [torch.load(project / folder / "weights.pt", weights_only=True)["model"] for folder in ("out", "second")]
    assert not torch.equal(weights[0]["last.weight"], weights[1]["last.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection_images": 7}, "leave none to train on"),
        ({"never_train": str(MASK_TEST_CSV)}, "has none of the outlines of"),
        ({"start_from": "nowhere.pt"}, "nowhere.pt"),
        ({"phases": [{"size_px": 33, "steps": 1, "batch_size": 1, "learning_rate": 0.1}]}, "a size that 8 divides"),
        ({"pseudo_labels": {"radiographs": 4, "agreement": 1.0}}, "no outline reaches an agreement of 1.0"),
    ],
)
def test_wrong_configuration_ends_with_its_reason(project, changes, message):
    """Exit code 64, and what is wrong."""
    refused = job(project, **changes)
    assert refused.returncode == 64, refused.stderr
    assert message in refused.stderr


def test_mask_without_a_radiograph_is_named(project):
    """It is not left out in silence."""
    (project / "masks/image/3.png").unlink()
    refused = job(project)
    assert refused.returncode == 64
    assert "1 masks without a radiograph: 3" in refused.stderr
