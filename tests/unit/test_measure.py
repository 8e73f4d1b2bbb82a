"""The figures of a regressor's card, against ones worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from services.core.domain.contracts import SEX_ORDER
from services.core.domain.metrics import AGE_BANDS_MONTHS
from services.core.domain.release import IntervalCell
from tests.models import tiny_release
from training.evaluation.measure import age_metrics, interval_metrics

MALE, FEMALE = map(SEX_ORDER.index, ("male", "female"))
REFERENCE = np.array([20, 47.5, 48, 100, 200], np.float32)
SEXES = np.array([MALE, FEMALE, MALE, MALE, FEMALE])
ERRORS = np.array([2, 4, 6, 8, 10], np.float32)
PREDICTED = np.full((5, 3), 150, np.float32)
PREDICTED[np.arange(5), SEXES] = REFERENCE + ERRORS


def test_errors_are_told_by_sex_by_band_and_by_both():
    """47.5 months belong to the first band; a subgroup without a radiograph has a count of none and no figure."""
    figures = age_metrics(PREDICTED, REFERENCE, SEXES)
    assert (figures["n"], figures["mae_months"]) == (5, 6)
    assert [(group["sex"], group["n"], group["mae_months"]) for group in figures["by_sex"]] == [
        ("male", 3, pytest.approx(16 / 3)), ("female", 2, 7),
    ]  # fmt: skip
    assert figures["mae_male_months"] == figures["by_sex"][0]["mae_months"]
    told = [(band["low_months"], band["high_months"], band["n"], band["mae_months"]) for band in figures["by_age_band"]]
    assert told == [(0, 47, 2, 3), (48, 95, 1, 6), (96, 143, 1, 8), (144, 191, 0, None), (192, None, 1, 10)]
    both = figures["by_sex_and_age_band"]
    assert [(group["n"], group["mae_months"]) for group in both if group["sex"] == "male"] == [
        (1, 2), (1, 6), (1, 8), (0, None), (0, None),
    ]  # fmt: skip
    assert len(both) == 2 * len(AGE_BANDS_MONTHS)


def test_every_subgroup_has_its_interval():
    """A bootstrap interval that holds the figure, and none where there is none."""
    figures = age_metrics(PREDICTED, REFERENCE, SEXES)
    for group in (figures, *figures["by_sex"], *figures["by_age_band"], *figures["by_sex_and_age_band"]):
        if group["n"]:
            low, high = group["mae_months_ci95"]
            assert low <= group["mae_months"] <= high
        else:
            assert group["mae_months_ci95"] is None


def test_coverage_is_told_by_predicted_and_by_reference_age():
    """Intervals of 5 months each way hold errors of 2 and 4; read as 51.5 months, one of 47.5 is in another band."""
    cells = tuple(IntervalCell(sex, -np.inf, np.inf, 5, 100) for sex in SEX_ORDER)
    release = replace(tiny_release(), interval_cells=cells)
    figures = interval_metrics(PREDICTED, REFERENCE, SEXES, release)
    assert (figures["release"], figures["level"]) == (release.id, release.interval_level)
    assert (figures["n"], figures["covered"], figures["coverage"], figures["median_interval_months"]) == (5, 2, 0.4, 10)
    predicted, reference = (
        [(band["n"], band["covered"]) for band in figures[f"by_{which}age_band"]] for which in ("predicted_", "")
    )
    assert predicted == [(1, 1), (2, 1), (1, 0), (0, 0), (1, 0)]
    assert reference == [(2, 2), (1, 0), (1, 0), (0, 0), (1, 0)]
    low, high = figures["coverage_ci95"]
    assert 0 < low < 0.4 < high < 1


def test_an_age_before_birth_is_measured_as_it_is_served():
    """It is read as 0, and so is the interval around it."""
    cells = tuple(IntervalCell(sex, -np.inf, np.inf, 5, 100) for sex in SEX_ORDER)
    release = replace(tiny_release(), interval_cells=cells)
    predicted = np.full((1, 3), -3, np.float32)
    figures = interval_metrics(predicted, np.array([4], np.float32), np.array([MALE]), release)
    assert figures["by_predicted_age_band"][0]["n"] == figures["covered"] == 1
