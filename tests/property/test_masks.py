"""From a probability map to a mask: Otsu's threshold against a search, and what the hand's mask always is."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.domain.metrics import dice
from services.core.domain.postprocess import OTSU_BINS, fill_holes, hand_mask, largest_component, otsu_threshold

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
maps = arrays(np.float32, shapes, elements=st.floats(0, 1, width=32))
masks = arrays(np.bool_, shapes)


def between_class_variance(probability, threshold):
    """What Otsu's threshold makes greatest, on levels rounded to the bins' centres; 0 where one class is empty."""
    levels = (np.minimum(np.floor(probability.astype(np.float64) * OTSU_BINS), OTSU_BINS - 1) + 0.5) / OTSU_BINS
    above = levels >= threshold
    if above.all() or not above.any():
        return 0.0
    share = above.mean()
    return share * (1 - share) * (levels[above].mean() - levels[~above].mean()) ** 2


@given(maps)
def test_otsu_is_as_good_as_the_best_of_all_thresholds(probability):
    """No threshold between two bins separates the classes better."""
    best = max(between_class_variance(probability, edge / OTSU_BINS) for edge in range(1, OTSU_BINS))
    assert between_class_variance(probability, otsu_threshold(probability)) == pytest.approx(best, rel=1e-6, abs=1e-12)


@given(st.floats(0, 0.45), st.floats(0.55, 1), st.integers(1, 200), st.integers(1, 200))
def test_otsu_separates_two_spikes(low, high, few, many):
    """Two levels are told apart however unequal their shares."""
    probability = np.repeat(np.float32([low, high]), [few, many])[None]
    assert low < otsu_threshold(probability) < high


@given(st.floats(0, 1), shapes)
def test_a_constant_map_has_no_classes(level, shape):
    """The threshold of a map without contrast is a half."""
    assert otsu_threshold(np.full(shape, level, np.float32)) == 0.5


@given(masks)
def test_the_largest_component_is_one_piece_of_the_mask(mask):
    """It is inside the mask, in one piece, and no other piece is larger."""
    largest = largest_component(mask)
    assert not (largest & ~mask).any()
    pieces, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=pieces)[1:]
    assert largest.sum() == (areas.max() if mask.any() else 0)
    assert cv2.connectedComponents(largest.astype(np.uint8), connectivity=8)[0] - 1 == int(mask.any())


@given(masks)
def test_filled_holes_are_holes(mask):
    """What is added is enclosed: none of it is reached from outside, and filling again adds nothing."""
    filled = fill_holes(mask)
    assert not (mask & ~filled).any()
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(outside, connectivity=4)
    assert not (filled & (labels == labels[0, 0])[1:-1, 1:-1]).any()
    np.testing.assert_array_equal(fill_holes(filled), filled)


@given(maps)
def test_the_hands_mask_is_one_piece_without_holes(probability):
    """Whatever the network says, the mask is one filled piece that holds the most certain pixel of its piece."""
    mask = hand_mask(probability)
    assert mask.shape == probability.shape
    np.testing.assert_array_equal(fill_holes(mask), mask)
    np.testing.assert_array_equal(largest_component(mask), mask)


@given(st.integers(0, 2**32 - 1))
def test_a_hand_beside_a_smaller_thing_is_found(seed):
    """Of two bright things on a dark map the larger is the hand, with its holes filled."""
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0, 0.2, (64, 64)).astype(np.float32)
    probability[8:48, 8:40] = rng.uniform(0.8, 1, (40, 32))
    probability[20:24, 20:24] = 0.1
    probability[52:60, 50:60] = 0.95
    expected = np.zeros((64, 64), np.bool_)
    expected[8:48, 8:40] = True
    np.testing.assert_array_equal(hand_mask(probability), expected)


@given(masks)
def test_dice_of_a_mask_with_itself_is_one(mask):
    """Also where both are empty; with its complement it is zero."""
    assert dice(mask, mask) == 1
    assume(mask.any())
    assert dice(mask, ~mask) == 0
