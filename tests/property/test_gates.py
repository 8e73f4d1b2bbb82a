"""The gates: contrast, certainty and structure measure what their names say."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.domain.gates import (
    GateThresholds,
    Reason,
    TypicalityLimit,
    check_interval,
    check_typicality,
    contrast,
    mask_certainty,
    structure_change,
)

grey = arrays(np.float32, st.tuples(st.integers(2, 40), st.integers(2, 40)), elements=st.floats(0, 1, width=32))
levels = arrays(np.uint16, st.tuples(st.integers(2, 40), st.integers(2, 40))).map(lambda a: np.float32(a / 65535))
"""Grey levels that a radiograph may have: the least above 0 is one of 16 bit."""
seeds = st.integers(0, 2**32 - 1)
BONES = np.array([(x, y) for x in (22, 48, 74) for y in (22, 48, 74)])


def limits(**changes):
    """Thresholds that let everything through, but for `changes`."""
    loosest = {
        "minimum_contrast": 0.0,
        "minimum_foreground_fraction": 0.0,
        "maximum_foreground_fraction": 1.0,
        "minimum_mask_certainty": 0.0,
        "typicality": (),
        "maximum_interval_width_months": np.inf,
        "maximum_structure_change": 1.0,
    }
    return GateThresholds(**(loosest | changes))


def drawn_bones(seed):
    """A hand-like image (96, 96) in [0, 1]: nine bright bones apart on grey soft tissue, with grain."""
    rng = np.random.default_rng(seed)
    image = np.full((96, 96), 0.3, np.float32)
    for x, y in BONES + rng.integers(-3, 4, BONES.shape):
        cv2.ellipse(image, (int(x), int(y)), (7, 5), float(rng.uniform(0, 180)), 0, 360, 0.8, -1)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.0) + rng.normal(0, 0.01, image.shape), 0, 1).astype(np.float32)


@given(levels, st.floats(0.01, 100))
def test_contrast_is_a_share_that_exposure_does_not_change(image, gain):
    """It lies in [0, 1] whatever the image, and is the same after a linear gain."""
    value = contrast(image)
    assert 0 <= value <= 1
    assert contrast(image * np.float32(gain)) == pytest.approx(value, abs=1e-3)


def test_a_flat_image_has_no_contrast():
    """Neither black nor white shows a bone."""
    assert contrast(np.zeros((8, 8), np.float32)) == 0
    assert contrast(np.ones((8, 8), np.float32)) == 0


@given(grey)
def test_certainty_is_that_of_the_masks_pixels(probability):
    """All doubt is 0, no doubt is 1, and an empty mask has none."""
    mask = probability >= 0.5
    assert 0 <= mask_certainty(probability, mask) <= 1
    assert mask_certainty(np.full_like(probability, 0.5), np.ones_like(mask)) == 0
    assert mask_certainty(mask.astype(np.float32), np.ones_like(mask)) == 1
    assert mask_certainty(probability, np.zeros_like(mask)) == 0


@given(seeds, st.floats(0.6, 1.6), st.floats(-0.2, 0.2))
def test_a_change_of_contrast_is_no_change_of_structure(seed, gain, offset):
    """A linear stretch keeps every correlation."""
    hand = drawn_bones(seed)
    assert structure_change(hand, (hand * gain + offset).astype(np.float32)) < 0.15


@given(seeds, st.sampled_from(BONES.tolist()))
def test_an_erased_bone_is_a_change_of_structure(seed, bone):
    """One ossification centre painted over with soft tissue is seen, though the rest is untouched."""
    hand = drawn_bones(seed)
    erased = hand.copy()
    cv2.circle(erased, bone, 13, 0.3, -1)
    assert structure_change(hand, erased) > 0.45


@given(seeds)
def test_structure_change_is_a_share_and_symmetric(seed):
    """It lies in [0, 1], is nothing for the same image, and does not ask which came first."""
    one, other = drawn_bones(seed), drawn_bones(seed + 1)
    assert structure_change(one, one) == pytest.approx(0, abs=1e-3)
    assert 0 <= structure_change(one, other) <= 1
    assert structure_change(one, other) == pytest.approx(structure_change(other, one), abs=1e-5)


@given(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32))
def test_the_first_score_below_its_limit_is_the_reason(first, second):
    """Scores are looked at in the release's order, and the explanation names the one that failed."""
    both = limits(
        typicality=(
            TypicalityLimit("upright", -1.0, Reason.NOT_UPRIGHT),
            TypicalityLimit("likeness", 1.0, Reason.NOT_LIKE_TRAINING),
        )
    )
    found = check_typicality(np.float32([first, second]), both)
    expected = Reason.NOT_UPRIGHT if first < -1 else Reason.NOT_LIKE_TRAINING if second < 1 else None
    assert (found and found.reason) == expected
    assert found is None or ("upright" if first < -1 else "likeness") in found.explanation


def test_a_score_that_is_no_number_passes_no_limit():
    """NaN is refused, not let through."""
    one = limits(typicality=(TypicalityLimit("likeness", -np.inf, Reason.NOT_LIKE_TRAINING),))
    assert check_typicality(np.float32([np.nan]), one) is not None


@given(st.floats(0, 240), st.floats(0, 100), st.floats(0, 100))
def test_an_interval_wider_than_allowed_is_refused(low, width, maximum):
    """Its width decides, not where it lies."""
    found = check_interval(low, low + width, limits(maximum_interval_width_months=maximum))
    assert (found is not None) == ((low + width) - low > maximum)
