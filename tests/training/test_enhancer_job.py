"""The conditional GAN of enhancement: its objectives, its learner and its job."""

import io
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.kills import kill_at_random, undisturbed  # noqa: E402
from training.data.rows import Rows  # noqa: E402
from training.enhancement.adversary import adversarial_loss, discriminator_loss, reconstruction_loss  # noqa: E402
from training.enhancement.degrade import Shares  # noqa: E402
from training.enhancement.learner import EnhancerLearner, training_pairs  # noqa: E402
from training.models.discriminator import Discriminator  # noqa: E402
from training.run.journal import read_journal  # noqa: E402

PATIENCE_S = 300
LOGITS = st.lists(st.floats(-15, 15, width=32), min_size=1, max_size=8).map(torch.tensor)


def hands(count, *, seed=0, side=64):
    """Grey ellipses with brighter bones, zero outside."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((count, side, side), np.uint8)
    for image in drawn:
        cv2.ellipse(image, (side // 2, side // 2), (side // 3, side // 2 - 2), 0, 0, 360, 90, -1)
        for column in rng.integers(side // 4, 3 * side // 4, 4):
            cv2.line(image, (int(column), side // 4), (int(column), 3 * side // 4), int(rng.integers(160, 230)), 3)
    return drawn


def learner(*, steps=6, adversarial_weight=0.1):
    """A small one."""
    return EnhancerLearner(
        hands=hands(9), gold=np.arange(6), selection=np.arange(6, 9), steps=steps, batch_size=2, learning_rate=0.002,
        adversarial_weight=adversarial_weight, validate_every=2, seed=3,
    )  # fmt: skip


@given(LOGITS, LOGITS)
def test_discriminator_minimises_minus_equation_8(gold, generated):
    """In logits the objective is that of the paper's probabilities."""
    value = torch.log(gold.double().sigmoid()).mean() + torch.log(1 - generated.double().sigmoid()).mean()
    assert float(discriminator_loss(gold, generated)) == pytest.approx(-float(value), rel=1e-4, abs=1e-5)


@given(st.floats(-1e4, 1e4))
def test_objectives_stay_finite(logit):
    """However sure the discriminator is, losses and gradients are numbers."""
    for loss in (lambda x: discriminator_loss(x, x), adversarial_loss):
        x = torch.tensor([logit], requires_grad=True)
        value = loss(x)
        value.backward()
        assert math.isfinite(float(value.detach()))
        assert torch.isfinite(x.grad).all()


def test_generator_learns_while_the_discriminator_wins():
    """A generated hand that D is sure of still has a gradient: that of eq. 9 as printed would have vanished."""
    x = torch.tensor([-12.0], requires_grad=True)
    adversarial_loss(x).backward()
    assert float(x.grad[0]) == pytest.approx(-1, abs=1e-4)


def test_reconstruction_is_least_for_the_gold_standard():
    """Zero for the gold standard itself, more for anything else."""
    gold = torch.from_numpy(hands(2).astype(np.float32) / 255)[:, None]
    assert float(reconstruction_loss(gold, gold)) == pytest.approx(0, abs=1e-5)
    assert float(reconstruction_loss(gold * 0.8, gold)) > 0.01
    assert float(reconstruction_loss(torch.zeros_like(gold), gold)) > 0.5


def test_discriminator_learns_to_tell_pairs_apart():
    """Three convolutions and one fully connected layer are enough to see what was degraded."""
    torch.manual_seed(0)
    network = Discriminator()
    assert [type(m).__name__ for m in network.modules() if list(m.parameters(recurse=False))] == ["Conv2d"] * 3 + [
        "Linear"
    ]
    optimiser = torch.optim.Adam(network.parameters(), lr=0.002)
    for step in range(60):
        x, y = training_pairs(hands(8), np.random.default_rng(step))
        loss = discriminator_loss(network(x, y), network(x, x))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, y = training_pairs(np.tile(hands(8, seed=9), (4, 1, 1)), np.random.default_rng(99))
    with torch.inference_mode():
        right = torch.cat([network(x, y) > 0, network(x, x) <= 0]).float().mean()
    assert float(right) > 0.8


def test_every_hand_that_is_to_select_selects():
    """Each once, however few they are."""
    assert len(learner().fixed[1]) == 3
    drawn = np.arange(1, 7, dtype=np.uint8)[:, None, None] * np.ones((6, 64, 64), np.uint8) * 40
    _, targets = training_pairs(drawn, np.random.default_rng(0))
    assert sorted(round(float(one.max()) * 255 / 40) for one in targets) == [1, 2, 3, 4, 5, 6]


def test_pairs_have_the_share_of_negatives_that_is_asked_for():
    """None without a share, all with 1: what is bright in the target is then dark."""
    for share, sign in ((0.0, 1), (1.0, -1)):
        pairs = training_pairs(hands(6), np.random.default_rng(2), Shares(inversion=share))
        for x, y in zip(*(images.numpy()[:, 0] for images in pairs), strict=True):
            assert sign * np.corrcoef(x[y > 0], y[y > 0])[0, 1] > 0


def test_resumed_run_ends_with_the_same_weights():
    """Both networks and both optimisers go on from any step to the same end, to the byte."""
    whole, states = learner(), []
    for step in range(1, 7):
        states.append(io.BytesIO())
        torch.save(whole.state(), states[-1])
        whole.step(step)
    for done in (1, 4):
        resumed = learner()
        states[done].seek(0)
        resumed.restore(torch.load(states[done], weights_only=True))
        for step in range(done + 1, 7):
            resumed.step(step)
        for ours, theirs in ((whole.generator, resumed.generator), (whole.discriminator, resumed.discriminator)):
            pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
        assert resumed.error == whole.error


def test_generator_alone_is_trained_without_a_discriminator():
    """With weight 0 the discriminator is left as it was drawn."""
    alone = learner(steps=2, adversarial_weight=0.0)
    before = {name: value.clone() for name, value in alone.discriminator.state_dict().items()}
    figures = [alone.step(step) for step in (1, 2)]
    assert all("discriminator" not in entry for entry in figures)
    assert all(torch.equal(value, before[name]) for name, value in alone.discriminator.state_dict().items())


def command(folder, **changes):
    """The job as a command, on ten prepared hands of 32 px."""
    ids = [str(i) for i in range(10)]
    rows = Rows.make(folder / "hands", ids, {"segmented": ((32, 32), "uint8")}, made_by="test")
    rows.write(np.arange(10), segmented=hands(10, side=32))
    (folder / "split.csv").write_text("\n".join(["id,part", *(f"{i},train" for i in ids)]) + "\n")
    values = {
        "hands": str(folder / "hands"), "split": str(folder / "split.csv"), "out": str(folder / "out"), "seed": 1,
        "gold_standard_images": 8, "selection_images": 2, "steps": 4, "batch_size": 2, "learning_rate": 0.001,
        "adversarial_weight": 0.05, "collimation_share": 0.5, "inversion_share": 0.5, "validate_every": 2,
    } | changes  # fmt: skip
    (folder / "enhancer.yaml").write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "training.jobs.enhancer", "--config", str(folder / "enhancer.yaml")]


def job(folder, **changes):
    """The job, to its end."""
    return subprocess.run(command(folder, **changes), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_job_trains_and_draws_its_curves(tmp_path):
    """Weights that the generator takes, figures of every validation, and a picture."""
    done = job(tmp_path)
    assert done.returncode == 0, done.stderr
    entries = [entry for entry in read_journal(tmp_path / "out") if "validation_l1" in entry]
    assert [entry["step"] for entry in entries] == [2, 4]
    best = torch.load(tmp_path / "out" / "weights.pt", weights_only=True)
    assert best["selection_l1"] == min(entry["validation_l1"] for entry in entries)
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_a_run_that_learnt_from_other_hands_is_refused(tmp_path):
    """Also where it is finished, since its weights are of those."""
    assert job(tmp_path).returncode == 0
    (tmp_path / "hands/rows.json").write_text((tmp_path / "hands/rows.json").read_text().replace('"test"', '"other"'))
    refused = subprocess.run(
        [sys.executable, "-m", "training.jobs.enhancer", "--config", str(tmp_path / "enhancer.yaml")],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert refused.returncode == 64
    assert "was begun with other hands than there are now" in refused.stderr


def test_killed_at_random_it_ends_with_the_same_weights(tmp_path):
    """The same bytes as an undisturbed run, of both networks; a checkpoint follows every step."""
    steps = {"steps": 12, "validate_every": 3}
    seconds = undisturbed(command(tmp_path, **steps), tmp_path / "out" / "tensorboard")
    killed = {**steps, "out": str(tmp_path / "killed"), "checkpoint_every_s": 0.01}
    kill_at_random(command(tmp_path, **killed), tmp_path / "killed" / "tensorboard", within_s=seconds, times=2)
    assert job(tmp_path, **killed).returncode == 0
    for name, key in (("weights.pt", "model"), ("last.pt", "learner")):
        whole, resumed = (torch.load(tmp_path / out / name, weights_only=True)[key] for out in ("out", "killed"))
        torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_a_share_is_no_more_than_all(tmp_path):
    """Exit code 64, and which value is wrong."""
    refused = job(tmp_path, inversion_share=1.5)
    assert refused.returncode == 64
    assert "inversion_share" in refused.stderr


def test_too_few_hands_are_refused(tmp_path):
    """Exit code 64, and what is wrong."""
    for images, said in ((11, "leave none to train on"), (10, "leaves none to learn from beside selection_images")):
        refused = job(tmp_path, selection_images=10, gold_standard_images=images)
        assert refused.returncode == 64
        assert said in refused.stderr
