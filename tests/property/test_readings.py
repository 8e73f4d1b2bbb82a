"""A reading's parts belong together: the map's mean is the number, and the interval lies around it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from services.core.domain.contracts import SEX_ORDER
from services.core.domain.metrics import (
    bootstrap_interval,
    coverage,
    covered,
    figure,
    in_age_band,
    mean,
    root_mean_square,
    share,
)
from services.core.domain.reading import class_probabilities
from services.core.domain.release import ClassCalibration, IntervalCell, Release
from tests.models import tiny_release

sexes = st.sampled_from(SEX_ORDER)
seeds = st.integers(0, 2**32 - 1)


def banded_release(edges_months, half_widths_months) -> Release:
    """The tiny release with bands between the edges, one half width each, the same for all sexes."""
    tiny = tiny_release()
    bands = zip([-np.inf, *edges_months], [*edges_months, np.inf], half_widths_months, strict=True)
    cells = tuple(IntervalCell(sex, low, high, half, 100) for low, high, half in bands for sex in SEX_ORDER)
    return replace(tiny, interval_cells=cells)


@given(seeds, st.integers(1, 64), st.integers(1, 9), st.floats(0.1, 1000))
def test_the_map_and_the_bias_are_the_output(seed, features, side, scale):
    """CAM of METHOD 5: for global average pooling and a linear head, mean of the map plus bias is the output."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(0, scale, (features, side, side)).astype(np.float32)
    weights, bias = rng.normal(0, 1, (3, features)).astype(np.float32), rng.normal(0, 100, 3).astype(np.float32)
    output = weights @ maps.mean(axis=(1, 2)) + bias
    contributions = np.tensordot(weights, maps, axes=1)
    again = contributions.mean(axis=(1, 2)) + bias
    magnitude = np.abs(weights) @ np.abs(maps).mean(axis=(1, 2))
    assert (np.abs(again - output) <= 1e-5 * np.maximum(1, magnitude)).all()


@given(st.floats(0, 240), sexes)
def test_the_interval_lies_around_the_age(age_months, sex):
    """Its lower end is never below birth, its upper end never below the age."""
    low, high = tiny_release().interval(age_months, sex)
    assert 0 <= low <= age_months <= high
    assert high - age_months == pytest.approx(12.0)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=5, unique=True).map(sorted),
    st.floats(-20, 260),
    sexes,
    st.data(),
)
def test_every_age_has_the_interval_of_its_band(edges_months, age_months, sex, data):
    """A band holds its lower edge and not its upper, so that no age has none and none has two."""
    widths = data.draw(st.lists(st.floats(1, 60), min_size=len(edges_months) + 1, max_size=len(edges_months) + 1))
    _, high = banded_release(edges_months, widths).interval(age_months, sex)
    expected = widths[int(np.searchsorted(edges_months, age_months, side="right"))]
    assert high - age_months == pytest.approx(expected)


def test_an_age_outside_all_bands_is_an_error():
    """A release that covers no such age says so with its id, the sex and the age."""
    tiny = tiny_release()
    cell = IntervalCell("male", 0.0, 100.0, 5.0, 100)
    narrow = replace(tiny, interval_cells=(cell,))
    with pytest.raises(LookupError, match=r"no interval for female at 50\.0 months"):
        narrow.interval(50.0, "female")


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50))
def test_a_figure_lies_in_its_interval_of_plausible_values(errors):
    """The bootstrap interval of a mean lies within the values, and the root mean square is at least the mean error."""
    values = np.array(errors)
    low, high = bootstrap_interval(values, mean, draws=50)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    assert root_mean_square(values) >= abs(mean(values)) - 1e-9


def test_a_figure_over_nothing_is_none():
    """There is no mean of no radiographs."""
    nothing = figure(np.array([]), mean)
    assert (nothing.n, nothing.value, nothing.low, nothing.high) == (0, None, None, None)


@given(st.floats(0, 240), st.integers(0, 240), st.integers(0, 60))
def test_age_bands_are_whole_months_inclusive(age_months, low, width):
    """11.9 months is in the band from 0 to 11."""
    assert in_age_band(np.array([age_months]), low, low + width)[0] == (low <= int(age_months) <= low + width)


@given(st.lists(st.tuples(*[st.floats(0, 240)] * 3), min_size=1, max_size=20))
def test_coverage_counts_closed_intervals(rows):
    """An age on the edge of its interval is covered."""
    true, one, other = np.array(rows).T
    low, high = np.minimum(one, other), np.maximum(one, other)
    assert covered(low, low, high).all()
    assert covered(high, low, high).all()
    assert mean(covered(true, low, high)) == pytest.approx(
        np.mean([a <= t <= b for t, a, b in zip(true, low, high, strict=True)])
    )


logits = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6)


@given(logits, st.floats(0.05, 20), st.floats(0, 1))
def test_probabilities_sum_to_one_and_keep_the_order_of_the_logits(values, temperature, least):
    """The likeliest class is always in the set, and whatever is in the set is no less likely than what is not."""
    calibration = ClassCalibration(tuple(map(str, range(len(values)))), temperature, least)
    classes = class_probabilities(np.array(values, np.float32), calibration)
    given_ = [c.probability for c in classes]
    assert sum(given_) == pytest.approx(1)
    assert max(classes, key=lambda c: c.probability).in_set
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(given_)[order]) >= -1e-12).all()
    outside = [c.probability for c in classes if not c.in_set]
    assert max(outside, default=0) <= min(c.probability for c in classes if c.in_set)


@pytest.mark.parametrize("values", [[0.0], [0.0, 1.0, 2.0], [0.0, float("nan")], [float("inf"), 0.0]])
def test_logits_that_are_not_those_of_the_classes_are_refused(values):
    """Another number of them, or one that is not finite."""
    with pytest.raises(ValueError, match="2 finite logits were expected"):
        class_probabilities(np.array(values, np.float32), ClassCalibration(("a", "b"), 1.0, 0.5))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_has_the_exact_interval(counts):
    """Clopper and Pearson's, as scipy computes it, from none to all of however many."""
    count, n = counts
    found, exact = share((np.arange(n) < count).astype(np.float64)), binomtest(count, n).proportion_ci(method="exact")
    assert (found.n, found.value) == (n, count / n)
    assert (found.low, found.high) == (pytest.approx(exact.low, abs=1e-9), pytest.approx(exact.high, abs=1e-9))


def test_without_an_interval_nothing_is_covered():
    """There is no share of nothing, and no width."""
    nothing = coverage(np.zeros(0), np.zeros(0)).record()
    assert nothing == {"covered": 0, "coverage": None, "coverage_ci95": None, "median_interval_months": None}
