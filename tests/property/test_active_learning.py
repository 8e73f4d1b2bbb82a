"""The mathematics of asking for outlines: angles, entropies and choices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.active_learning.dissimilarity import dissimilarity, matrix, sine
from training.active_learning.strategies import STRATEGIES, Pool
from training.active_learning.uncertainty import binary_entropy, entropy, mutual_information, vote_entropy

FINITE = st.floats(-10, 10, width=32)
VECTORS = arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(1, 12)), elements=FINITE)
MAPS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(2, 6)), elements=st.floats(0, 1))


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
