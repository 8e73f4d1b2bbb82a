"""The mathematics of asking for outlines: angles, entropies, choices, and what is said of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.active_learning.dissimilarity import dissimilarity, matrix, sine
from training.active_learning.strategies import STRATEGIES, Pool
from training.active_learning.uncertainty import binary_entropy, entropy, mutual_information, vote_entropy
from training.evaluation.label_curves import (
    TOLERANCE,
    Agreement,
    Curve,
    differences,
    followed,
    labels_to_reach,
    rank,
    rank_correlation,
    savings,
    shared,
)  # fmt: skip

FINITE = st.floats(-10, 10, width=32)
VECTORS = arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(1, 12)), elements=FINITE)
MAPS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(2, 6)), elements=st.floats(0, 1))

LABELS = (4, 8, 12, 16)
DICE = arrays(np.float64, (2, len(LABELS), 3), elements=st.floats(0, 1))


@given(st.floats(0.001, np.pi - 0.001), st.floats(0.1, 100), st.floats(0.1, 100))
def test_sine_is_that_of_the_angle(angle, length, other):
    """Whatever the lengths."""
    one = np.array([length, 0.0])
    assert sine(one, other * np.array([np.cos(angle), np.sin(angle)])) == pytest.approx(np.sin(angle), abs=1e-6)


@given(VECTORS)
def test_matrix_is_symmetric_with_a_zero_diagonal(vectors):
    """In [0, 1]; equation 7 is half of its sum."""
    found = matrix(vectors)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.all(np.diag(found) == 0)
    assert np.all((found >= 0) & (found <= 1))
    assert dissimilarity(vectors) == pytest.approx(found.sum() / 2, abs=1e-9)


@given(VECTORS, st.randoms())
def test_order_and_scale_of_members_do_not_matter(vectors, random):
    """A committee is a set; a vector's length says nothing."""
    order = list(range(len(vectors)))
    random.shuffle(order)
    assert dissimilarity(vectors[order]) == pytest.approx(dissimilarity(vectors), abs=1e-6)
    assert dissimilarity(vectors * 3) == pytest.approx(dissimilarity(vectors), abs=1e-6)


def test_members_that_agree_have_none():
    """Equal, or opposite, vectors: the sine does not tell the one from the other (equation 5 squares the cosine)."""
    v = np.array([[1.0, 2, 3], [2.0, 4, 6], [-1.0, -2, -3]])
    assert dissimilarity(v) == pytest.approx(0, abs=1e-6)


@given(MAPS)
def test_entropies_are_bounded(maps):
    """By log 2; what draws disagree about is never negative, and no more than the entropy of their mean."""
    assert -1e-12 <= entropy(maps) <= np.log(2) + 1e-12
    assert -1e-9 <= mutual_information(maps) <= entropy(maps) + 1e-9
    assert 0 <= vote_entropy(maps) <= np.log(2) + 1e-12


def test_entropies_of_known_maps():
    """Certain maps have none; a half everywhere has log 2 and no disagreement; two opposite maps nothing else."""
    sure = np.zeros((4, 4))
    sure[1:3, 1:3] = 1
    assert binary_entropy(np.array([0.0, 1.0])).tolist() == [0, 0]
    assert entropy(sure[None]) == 0
    half = np.full((3, 4, 4), 0.5)
    assert entropy(half) == pytest.approx(np.log(2))
    assert mutual_information(half) == pytest.approx(0, abs=1e-12)
    assert mutual_information(np.stack([sure, 1 - sure])) == pytest.approx(np.log(2))
    assert vote_entropy(np.stack([sure, 1 - sure])) == pytest.approx(np.log(2))
    assert vote_entropy(np.stack([sure, sure * 0.9 + 0.02])) == 0


@given(
    st.sampled_from(sorted(STRATEGIES)), st.integers(1, 30), st.integers(1, 40), st.integers(0, 5), st.integers(0, 1000)
)
def test_every_choice_is_of_different_images_and_repeatable(name, size, count, labelled, seed):
    """As many as were asked for or all; ties, of which there are many here, never give one twice."""
    rng = np.random.default_rng(seed)
    strategy = STRATEGIES[name]
    scores = {measure: rng.integers(0, 3, size).astype(np.float64) for measure in strategy.measures}
    embeddings = rng.integers(0, 2, (size, 3 if strategy.embeds else 0)).astype(np.float32)
    pool = Pool([f"{i:03d}" for i in range(size)], scores, embeddings)
    outlined = rng.integers(0, 2, (labelled, embeddings.shape[1])).astype(np.float32)
    chosen = strategy.choose(pool, outlined, count, seed=seed)
    assert len(chosen) == len(set(chosen)) == min(count, size)
    assert set(chosen) <= set(pool.ids)
    assert chosen == strategy.choose(pool, outlined, count, seed=seed)


def test_highest_come_first_and_of_equals_the_first():
    """The paper's choice."""
    pool = Pool(["a", "b", "c", "d"], {"dissimilarity": np.array([1.0, 3, 3, 2])}, np.zeros((4, 0), np.float32))
    assert STRATEGIES["committee"].choose(pool, np.zeros((0, 0), np.float32), 3, seed=0) == ["b", "c", "d"]


def test_coreset_goes_where_nothing_is():
    """The farthest from what is outlined, then the farthest from both."""
    points = np.array([[0.0], [1], [10], [5]], np.float32)
    pool = Pool(["a", "b", "c", "d"], {}, points)
    assert STRATEGIES["coreset"].choose(pool, np.array([[0.0]], np.float32), 2, seed=0) == ["c", "d"]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_are_shared_by_equals(values):
    """One more than how many are smaller, and half of the others that are equal."""
    ranks = rank(np.array(values, float))
    for value, found in zip(values, ranks, strict=True):
        smaller = sum(other < value for other in values)
        assert found == pytest.approx(smaller + (values.count(value) + 1) / 2)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=20, unique=True))
def test_rank_correlation_is_of_order_alone(values):
    """Any growing function of values goes with them, any falling one against them; what is all equal with nothing."""
    one = np.round(np.array(values), 6)
    if len(np.unique(one)) > 1:
        assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
        assert rank_correlation(one, -(one**3)) == pytest.approx(-1)
    assert math.isnan(rank_correlation(one, np.ones(len(one))))


def test_labels_needed_are_those_from_which_a_curve_stays():
    """Between rounds it is a line; one that falls below again has not reached it yet, unless by less than is told."""
    curve = np.array([0.5, 0.9, 0.7, 0.9])
    assert labels_to_reach(LABELS, curve, 0.8 + TOLERANCE) == pytest.approx(14)
    assert labels_to_reach(LABELS, np.array([0.5, 0.9, 0.899, 0.9]), 0.9) == pytest.approx(8, abs=0.05)
    assert labels_to_reach(LABELS, curve, 0.5) == 4
    assert labels_to_reach(LABELS, curve, 0.95) == math.inf


@given(DICE, st.floats(0, 1), st.floats(0, 1))
def test_more_dice_never_takes_fewer_labels(dice, one, other):
    """And none takes fewer than the first round has."""
    curve = dice.mean(axis=(0, 2))
    low, high = (labels_to_reach(LABELS, curve, target) for target in sorted((one, other)))
    assert LABELS[0] <= low <= high
    assert high <= LABELS[-1] or math.isinf(high)


@given(DICE, DICE, st.sampled_from([0.5, 0.75, 0.9]))
def test_what_one_saves_the_other_loses(ours, others, share):
    """Never reached is treated alike on both sides, in the figure and in its interval."""
    one, other = savings(LABELS, ours, others, share), savings(LABELS, others, ours, share)
    assert one.target == pytest.approx(other.target)
    assert (one.ours, one.others, one.never) == pytest.approx((other.others, other.ours, other.never))
    saved, low, high = one.saved
    assert (saved, low, high) == pytest.approx((-other.saved[0], -other.saved[2], -other.saved[1]), abs=1e-6)
    assert abs(saved) <= LABELS[-1] - LABELS[0]


def test_labels_saved_are_counted_between_rounds():
    """A curve that is four labels ahead saves four in every resample; one that never arrives loses all to the end."""
    slow = np.broadcast_to(np.array([0.5, 0.5, 0.6, 0.7])[:, None], (2, 4, 3))
    fast = np.broadcast_to(np.array([0.5, 0.6, 0.7, 0.7])[:, None], (2, 4, 3))
    found = savings(LABELS, fast, slow, 0.5)
    assert found.target == pytest.approx(0.6)
    assert found.saved == pytest.approx((4, 4, 4), abs=1e-9)
    assert found.never == 0
    flat = np.full((2, 4, 3), 0.5)
    lost = savings(LABELS, flat, fast, 0.9)
    assert (lost.ours, lost.never) == (math.inf, 1)
    assert lost.saved[0] == pytest.approx(lost.others - 16)


def curve(arm, seed, level):
    """A run of one round, of two members on two test outlines."""
    dice = np.array([[[level, level + 0.1], [0.0, 0.0]]])
    return Curve("hands", arm, seed, (4,), (10,), dice, dice.max(axis=1))


def test_only_seeds_of_both_are_compared_and_first_members_of_each():
    """Whatever the order of the runs; what other members do is no matter, unless all of ours are asked together."""
    ours = [curve("a", 3, 0.8), curve("a", 1, 0.5)]
    others = [curve("b", 1, 0.4), curve("b", 2, 0.1), curve("b", 3, 0.6)]
    one, other = shared(ours, others)
    np.testing.assert_allclose(one - other, [[[0.2, 0.2]], [[0.1, 0.1]]])
    assert differences(one, other)[0][0] == pytest.approx(0.15)
    assert differences(*shared([curve("a", 1, 0.5)], [curve("b", 2, 0.5)])) == []
    np.testing.assert_array_equal(shared(ours, others, together=True)[0], one)


def test_intervals_tell_of_seeds_as_well_as_of_outlines():
    """Seeds that differ much and outlines that do not: the interval is as wide as the seeds say."""
    values = np.repeat([[[0.0]], [[1.0]]], 50, axis=2)
    assert differences(values, np.zeros((2, 1, 50))) == [pytest.approx((0.5, 0, 1))]


def test_scores_are_held_against_the_error_that_is_meant():
    """Of one member, or of all on average; a measure that says nothing has no correlation."""
    errors = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.7, 0.5, 0.3, 0.1]])
    scores = {"dissimilarity": np.arange(5.0), "vote_entropy": np.ones(5)}
    runs = [[Agreement(tuple("abcde"), errors, scores)]] * 3
    assert followed(runs, "dissimilarity", member=0) == pytest.approx((1, 1, 1))
    assert followed(runs, "dissimilarity", member=1) == pytest.approx((-1, -1, -1))
    assert followed(runs, "dissimilarity")[0] == pytest.approx(-1)
    assert followed(runs, "vote_entropy") is None
    assert followed([[], []], "dissimilarity") is None


def test_radiographs_are_the_same_in_all_seeds():
    """Two seeds whose pools overlap in part: what both see is resampled together, and each by its own scores."""
    errors = np.array([[0.1, 0.2, 0.3, 0.4]])
    one = Agreement(tuple("abcd"), errors, {"entropy": np.arange(4.0)})
    other = Agreement(tuple("cdef"), errors, {"entropy": -np.arange(4.0)})
    mean, low, high = followed([[one], [other]], "entropy")
    assert mean == pytest.approx(0)
    assert (low, high) == pytest.approx((-1, 1))
