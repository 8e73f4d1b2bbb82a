"""The conformal interval covers what it says, per sex and band, whatever the errors look like."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.calibration import (
    BAND_EDGES_MONTHS,
    LEVEL,
    MINIMUM_IMAGES,
    band_scales,
    conformal_half_width,
    fit_temperature,
    interval_cells,
    set_probability,
)


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


def readings(rng, count, spread=lambda ages: np.full(len(ages), 10.0)):
    """Predicted (N, 3) and reference (N,) ages and sexes (N,); `spread` of the errors depends on the predicted age."""
    predicted = np.repeat(np.clip(rng.normal(127, 41, count), 1, 228)[:, None], 3, axis=1)
    reference = predicted[:, 0] + rng.normal(0, 1, count) * spread(predicted[:, 0])
    return predicted, reference, rng.integers(0, 2, count)


@given(st.integers(0, 2**32 - 1), st.integers(250, 900))
@settings(max_examples=25, deadline=None)
def test_cells_cover_every_age_once_and_hold_enough_images(seed, count):
    """For each sex the cells touch, reach from minus to plus infinity, and hold at least the least number of images."""
    rng = np.random.default_rng(seed)
    calibration = readings(rng, count)
    cells = interval_cells(*calibration, band_scales(*readings(rng, count)))
    for sex in ("male", "female", "unknown"):
        own = [cell for cell in cells if cell.sex == sex]
        assert own[0].low_months == -np.inf
        assert own[-1].high_months == np.inf
        assert all(a.high_months == b.low_months for a, b in pairwise(own))
        assert min(cell.calibration_images for cell in own) >= min(MINIMUM_IMAGES, count)


def test_a_band_with_larger_errors_gets_a_wider_interval_though_it_is_calibrated_with_its_neighbour():
    """Errors three times as large from 16 years on, too few there for a cell of their own: still near their level."""
    rng = np.random.default_rng(7)
    uneven = partial(readings, spread=lambda ages: np.where(ages >= 192, 18.0, 6.0))
    predicted, reference, _ = uneven(rng, 20_000)
    oldest = predicted[:, 0] >= 192
    errors = np.abs(predicted[:, 0] - reference)

    def coverage(even):
        """Of the oldest and of the others."""
        scales = band_scales(*uneven(rng, 840))
        cells = interval_cells(*uneven(rng, 720), np.ones_like(scales) if even else scales)
        release = {cell.low_months: cell.half_width_months for cell in cells if cell.sex == "male"}
        lows = np.array(sorted(release))
        hits = errors <= np.array([release[low] for low in lows])[np.searchsorted(lows, predicted[:, 0], "right") - 1]
        return hits[oldest].mean(), hits[~oldest].mean()

    with_scales = np.mean([coverage(even=False) for _ in range(10)], axis=0)
    without = np.mean([coverage(even=True) for _ in range(10)], axis=0)
    assert with_scales[0] > LEVEL - 0.06 > without[0] + 0.1
    assert with_scales[1] == pytest.approx(LEVEL, abs=0.03)


def test_the_scales_of_two_sexes_are_one_and_few_images_say_little():
    """Known sexes share their scales, the unknown has its own; a band without images has the mean of all."""
    rng = np.random.default_rng(1)
    predicted, reference, sexes = readings(rng, 500)
    predicted[:, 2] += 40 * rng.choice([-1, 1], 500)
    chosen = (predicted >= 48).all(axis=1)
    scales = band_scales(predicted[chosen], reference[chosen], sexes[chosen])
    assert scales.shape == (3, len(BAND_EDGES_MONTHS) - 1)
    np.testing.assert_array_equal(scales[0], scales[1])
    assert (scales[2] > 2 * scales[0]).all()
    own = np.abs(predicted[np.arange(len(sexes)), sexes] - reference)[chosen]
    assert scales[0, 0] == pytest.approx(own.mean())


def test_a_sex_that_is_not_there_is_calibrated_on_all():
    """Where no radiograph names its sex, intervals for either sex are those of all radiographs, and none fails."""
    rng = np.random.default_rng(2)
    predicted, reference, _ = readings(rng, 300)
    predicted = np.repeat(predicted[:, :1], 3, axis=1)
    unknown = np.full(300, 2)
    cells = interval_cells(predicted, reference, unknown, band_scales(predicted, reference, unknown))
    by_sex = {
        sex: [replace(cell, sex="") for cell in cells if cell.sex == sex] for sex in ("male", "female", "unknown")
    }
    assert by_sex["male"] == by_sex["female"] == by_sex["unknown"] != []


def test_the_temperature_undoes_what_was_done_to_the_logits():
    """Logits that were sharpened threefold get a temperature of three: probabilities then are how often it is so."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1.5, (4000, 2))
    chance = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    labels = (rng.random(4000) < chance).astype(np.float32)
    assert fit_temperature((3 * logits).astype(np.float32), labels) == pytest.approx(3, rel=0.1)


def test_the_set_holds_the_true_class_as_often_as_it_says():
    """Over fresh draws the classes of at least that probability hold the true one in 90%, within sampling error."""
    rng = np.random.default_rng(5)

    def drawn(count):
        given_ = rng.dirichlet(np.ones(4), count)
        true = np.array([rng.choice(4, p=row) for row in given_])
        return given_[np.arange(count), true]

    held = [(drawn(1000) >= set_probability(drawn(200))).mean() for _ in range(40)]
    assert np.mean(held) == pytest.approx(LEVEL, abs=0.02)
