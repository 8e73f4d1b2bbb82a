"""Paced transfer learning: what is frozen stays frozen, what is kept is what would be computed, runs resume."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.models.backbones import chain, create  # noqa: E402
from training.models.regressor import TransferNetwork  # noqa: E402
from training.run.exits import BadConfigurationError  # noqa: E402
from training.transfer.devices import Device  # noqa: E402
from training.transfer.images import Examples  # noqa: E402
from training.transfer.learner import Fitting, Lessons, StagedLearner  # noqa: E402
from training.transfer.stages import Stage  # noqa: E402
from training.transfer.target import AgeTarget, CategoryTarget, area_under_roc  # noqa: E402

BACKBONE = "tf_efficientnet_lite0"
CPU = Device("cpu", "fp32")
SIDE = 64


def examples(count, *, seed=0):
    """Images whose brightness tells their age, of both sexes."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(12, 216, count).astype(np.float32)
    images = np.clip(ages[:, None, None] + rng.normal(0, 8, (count, SIDE, SIDE)), 1, 255).astype(np.uint8)
    return Examples.of(images, ages, rng.integers(0, 2, count))


def network(outputs=3, *, seed=0):
    """A network with random weights."""
    torch.manual_seed(seed)
    return TransferNetwork(BACKBONE, outputs)


def learner(
    stages, *, train=None, validation=None, cache=None, target=None, net=None, lessons=None, device=CPU, **fitting
):
    """A learner on a few images."""
    return StagedLearner(
        net or network(),
        train=train or examples(24),
        validation=examples(8, seed=1) if validation is None else validation,
        target=target or AgeTarget(),
        stages=stages,
        fitting=Fitting(**({"batch_size": 4, "validate_every": 8, "seed": 3} | fitting)),
        device=device,
        cache=cache,
        lessons=lessons,
    )


def run(learning, *, limit=200):
    """All stages; returns what each step reported."""
    reports = []
    while not learning.finished and len(reports) < limit:
        reports.append(learning.step(len(reports) + 1))
    return reports


def weights(module):
    """A copy of all weights and buffers."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_xception_is_cut_where_its_paper_cuts_it():
    """Entry flow up to block 3, middle flow of eight blocks, exit flow from block 12 on."""
    net = TransferNetwork("legacy_xception", 1)
    names = list(chain(net.backbone))
    sizes = {flow: len(module) for flow, module in net.flows().items()}
    assert names.index("block4") == sizes["entry"]
    assert names.index("block12") == sizes["entry"] + 8


def test_unknown_backbone_is_named():
    """A misspelt name is an error before anything is loaded."""
    with pytest.raises(ValueError, match="no backbone 'xceptoin'"):
        create("xceptoin")


@pytest.mark.parametrize("trainable", [(), ("exit",), ("exit", "middle"), ("middle",), ("entry",)])
def test_frozen_flows_do_not_change_by_a_byte(trainable):
    """Neither weights nor batch-norm statistics of frozen flows move, and everything else does."""
    learning = learner([Stage(trainable, images=16, learning_rate=0.01)])
    before = {flow: weights(module) for flow, module in learning.network.flows().items()}
    learning.step(1)
    for flow, module in learning.network.flows().items():
        same = [torch.equal(before[flow][name], tensor) for name, tensor in weights(module).items()]
        assert all(same) == (flow not in trainable)


def test_each_stage_starts_from_the_best_before_it(monkeypatch):
    """Not from its last, which here is worse; and the run ends with the best of all, to the byte."""
    learning = learner(
        [Stage((), images=24, learning_rate=0.003), Stage(("exit",), images=16, learning_rate=0.003)]
    )  # fmt: skip
    told, seen = iter([9.0, 4.0, 8.0, 3.0, 7.0]), []

    def validate():
        seen.append(weights(learning.network))
        return {"mae_months": next(told), "mae_sex_unknown_months": 99.0}

    monkeypatch.setattr(learning, "validate", validate)
    begun = None
    for step in range(1, 11):
        learning.step(step)
        if learning.index == 1 and begun is None:
            begun = weights(learning.network)
    assert learning.finished
    assert len(seen) == 5
    assert same(begun, seen[1])
    assert not same(begun, seen[2])
    assert same(weights(learning.network), seen[3])
    assert not same(seen[3], seen[4])


def same(one, other):
    """Whether two networks are equal to the byte."""
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_batch_that_processes_cannot_share_is_refused():
    """Shares of different sizes would count some images more than others."""
    three = Device("cpu", "fp32", rank=0, world=3)
    with pytest.raises(BadConfigurationError, match="a batch of 4 images cannot be shared by 3 processes"):
        learner([Stage((), images=16, learning_rate=0.003)], device=three)


def test_too_few_images_are_named_before_anything_is_computed():
    """A batch that cannot be drawn, nothing to validate with."""
    stages = [Stage((), images=16, learning_rate=0.003)]
    with pytest.raises(BadConfigurationError, match="3 images to learn from are no batch of 4"):
        learner(stages, train=examples(3))
    with pytest.raises(BadConfigurationError, match="no image is left to validate with"):
        learner(stages, validation=examples(8).take(np.arange(0)))


def test_what_early_stopping_saves_goes_to_the_next_stage():
    """The number of images seen in all stays what was asked for."""
    stages = [Stage((), images=400, learning_rate=0.0, patience=1), Stage(("exit",), images=40, learning_rate=0.0)]
    learning = learner(stages)
    reports = run(learning)
    assert len(reports) * 4 == 440
    assert sum(report["stage"] == 0 for report in reports) * 4 == 16


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_kept_maps_give_the_same_run_as_computing_them(tmp_path, precision):
    """With the same copies the losses agree, as far as half precision lets them, and no map is computed twice."""
    device = Device("cpu", precision)
    stages = [Stage(flows, images=32, learning_rate=0.003, copies=2, cached=False) for flows in ((), ("exit",))]
    cached = [Stage(s.trainable, images=32, learning_rate=0.003, copies=2, cached=True) for s in stages]
    plain, kept = run(learner(stages, device=device)), run(learner(cached, cache=tmp_path, device=device))
    for one, other in zip(plain, kept, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.02)
        assert other.keys() == one.keys()
    other_images = run(learner(stages, train=examples(24, seed=9), device=device))
    assert any(o["loss"] != pytest.approx(one["loss"], rel=0.1) for one, o in zip(plain, other_images, strict=True))
    filled = {path: np.fromfile(path, bool).sum() for path in tmp_path.glob("*.rows")}
    again = run(learner(cached, cache=tmp_path, device=device))
    assert [r["loss"] for r in again] == [r["loss"] for r in kept]
    assert {path: np.fromfile(path, bool).sum() for path in tmp_path.glob("*.rows")} == filled
    assert sum(filled.values()) > 0


def test_layers_nearer_to_the_image_learn_slower():
    """Layer-wise decay: every block that learns has a factor of its own, and no parameter two."""
    net = network()
    stage = Stage(("exit", "middle", "entry"), images=16, learning_rate=0.001, block_decay=0.5)
    stage.freeze(net)
    groups = stage.parameter_groups(net)
    factors = [factor for _, factor in groups]
    assert factors == [1.0, *(0.5**depth for depth in range(len(groups) - 1))]
    found = [id(parameter) for parameters, _ in groups for parameter in parameters]
    assert sorted(found) == sorted(id(parameter) for parameter in net.parameters())
    assert groups[0][0][0] is net.head.weight
    assert groups[-1][0][0] is next(net.flows()["entry"].parameters())


def test_a_stage_is_judged_by_its_own_best(monkeypatch):
    """It begins worse than the last one ended, and has its patience for getting better from there."""
    stages = [Stage((), images=16, learning_rate=0.003), Stage(("exit",), images=32, learning_rate=0.001, patience=1)]
    one = learner(stages)
    scores = iter([1.0, 5.0, 4.0, 3.0, 2.0, 1.9, 1.8])
    monkeypatch.setattr(one, "validate", lambda: {"mae_months": next(scores)})
    run(one)
    assert one.finished
    assert one.seen == 32
    assert one.score == 1.0


@pytest.mark.parametrize("target", [AgeTarget(), CategoryTarget(("a", "b", "c"))])
def test_a_teacher_has_its_share_of_the_loss(target):
    """The labels have the rest of it."""
    train = examples(24)
    train = replace(train, labels=np.arange(24, dtype=np.float32) % 3)
    stages = [Stage((), images=16, learning_rate=0.003)]
    taught = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    first = {}
    for share in (0.0, 0.25, 1.0):
        first[share] = learner(stages, train=train, target=target, lessons=Lessons(taught, share)).step(1)["loss"]
    assert first[0.0] != pytest.approx(first[1.0], rel=0.1)
    assert first[0.25] == pytest.approx(0.75 * first[0.0] + 0.25 * first[1.0], rel=1e-5)
    assert first[0.0] == learner(stages, train=train, target=target).step(1)["loss"]


@given(arrays(np.float32, (5, 3), elements=st.floats(-3, 3, width=32)), st.floats(0.1, 3))
def test_imitation_is_least_where_the_outputs_are_the_teachers(taught, shift):
    """For ages it is then nothing; for classes anything else costs more."""
    sexes = torch.tensor([0, 1, 2, 0, 1])
    right, wrong = torch.from_numpy(taught), torch.from_numpy(taught) + torch.tensor([shift, 0, -shift])
    for target in (AgeTarget(unknown_share=0.3), CategoryTarget(("a", "b", "c"))):
        assert target.imitation(right, right, sexes) < target.imitation(wrong, right, sexes)
    assert AgeTarget().imitation(right, right, sexes) == 0


@pytest.mark.parametrize("optimiser", ["adamw", "rmsprop"])
def test_resumed_run_ends_with_the_same_weights(optimiser):
    """State taken in the middle of any stage and given to a new learner leads to the same end, to the byte."""
    stages = [Stage((), images=16, learning_rate=0.003), Stage(("exit",), images=16, learning_rate=0.001)]
    whole = learner(stages, optimiser=optimiser)
    states = []
    for step in range(1, 9):
        states.append({k: (v.copy() if isinstance(v, dict) else v) for k, v in _clone(whole.state()).items()})
        whole.step(step)
    for step in (2, 4, 5, 7):
        resumed = learner(stages, net=network(seed=99), optimiser=optimiser)
        resumed.restore(states[step - 1])
        for later in range(step, 9):
            resumed.step(later)
        assert all(
            torch.equal(a, b)
            for a, b in zip(weights(resumed.network).values(), weights(whole.network).values(), strict=True)
        )


def _clone(state):
    """A state as it would come back from disk."""
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def test_category_is_learnt_by_the_same_engine():
    """Dark against bright: the head alone tells them apart after some steps."""
    data = examples(40)
    bright = Examples.of(data.source, (data.labels > 114).astype(np.float32), data.sexes)
    learning = learner(
        [Stage((), images=240, learning_rate=0.01)],
        train=bright,
        target=CategoryTarget(("dark", "bright")),
        net=network(2),
        validate_every=120,
    )
    learning.validation = bright
    figures = run(learning)[-1]
    assert figures["validation_auc"] > 0.9
    assert learning.network.head.weight.shape[0] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainable": (), "cached": True}, "needs a number of copies"),
        ({"trainable": ("entry", "middle", "exit"), "cached": True, "copies": 2}, "nothing frozen"),
    ],
)
def test_stage_that_makes_no_sense_is_refused(changes, message):
    """At once, when it is described."""
    with pytest.raises(ValueError, match=message):
        Stage(**({"images": 8, "learning_rate": 0.1} | changes))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_area_under_roc_counts_pairs(pairs):
    """It is the share of pairs in the right order, ties counting half."""
    scores, positive = np.float32([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    if positive.all() or not positive.any():
        assert np.isnan(area_under_roc(scores, positive))
        return
    right = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert area_under_roc(scores, positive) == pytest.approx(np.mean(right))
