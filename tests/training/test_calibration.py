"""The conformal interval covers what it says, per sex and band, whatever the errors look like."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.calibration import LEVEL, MINIMUM_IMAGES, conformal_half_width, interval_cells


@given(st.integers(0, 2**32 - 1), st.integers(20, 400))
@settings(max_examples=50, deadline=None)
def test_half_width_covers_its_share_of_the_calibration_errors(seed, count):
    """At least ceil((n + 1) level) of the n errors lie within the half width, and no smaller one has that."""
    errors = np.random.default_rng(seed).exponential(8, count)
    width = conformal_half_width(errors, LEVEL)
    assert (errors <= width).sum() >= np.ceil((count + 1) * LEVEL)
    assert (errors < width).sum() < np.ceil((count + 1) * LEVEL)


def test_too_few_images_are_refused():
    """Eight errors cannot bound a ninth with nine tenths' probability."""
    with pytest.raises(ValueError, match="too few"):
        conformal_half_width(np.ones(8), LEVEL)


def test_new_images_are_covered():
    """Over many draws the interval of a fresh image covers its age in 90% of cases, within sampling error."""
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(300):
        errors = np.abs(rng.standard_t(3, 200))
        hits.append(abs(rng.standard_t(3)) <= conformal_half_width(errors, LEVEL))
    assert np.mean(hits) == pytest.approx(LEVEL, abs=0.05)


@given(st.integers(0, 2**32 - 1), st.integers(250, 900))
@settings(max_examples=25, deadline=None)
def test_cells_cover_every_age_once_and_hold_enough_images(seed, count):
    """For each sex the cells touch, reach from minus to plus infinity, and hold at least the least number of images."""
    rng = np.random.default_rng(seed)
    reference = np.clip(rng.normal(127, 41, count), 1, 228)
    predicted = reference[:, None] + rng.normal(0, 10, (count, 3))
    cells = interval_cells(predicted, reference, rng.integers(0, 2, count))
    for sex in ("male", "female", "unknown"):
        own = [cell for cell in cells if cell.sex == sex]
        assert own[0].low_months == -np.inf
        assert own[-1].high_months == np.inf
        assert all(a.high_months == b.low_months for a, b in pairwise(own))
        assert len(own) == 1 or min(cell.calibration_images for cell in own) >= MINIMUM_IMAGES
