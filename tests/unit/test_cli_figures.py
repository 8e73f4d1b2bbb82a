"""The figures of an evaluation, against ones worked out by hand."""

import math
from pathlib import Path

import pytest

from boneage.v1 import assessment_pb2, common_pb2, regression_pb2
from services.cli.evaluate import table_of
from services.cli.figures import Labelled, choose, evaluate, in_training
from services.cli.files import InputFile
from services.cli.reading import Ask, Reading
from services.cli.tables import Label
from services.cli.usage import UsageError

FILE = InputFile(Path("1.png"), "1", "encoded")
ASK = Ask(ungated=True)


def answered(age_months: float, *, half_width_months: float = 10) -> Reading:
    """A reading with a number."""
    response = assessment_pb2.AssessResponse(
        status=regression_pb2.ASSESSMENT_STATUS_OK,
        age_months=age_months,
        interval_low_months=age_months - half_width_months,
        interval_high_months=age_months + half_width_months,
        ungated_age_months=age_months,
        release="r1",
    )
    return Reading(FILE, ASK, response)


def abstained(ungated_age_months: float) -> Reading:
    """A reading whose number the gates held back."""
    abstention = common_pb2.Abstention(
        reason=common_pb2.ABSTENTION_REASON_INTERVAL_TOO_WIDE, explanation="the 90% interval is 90 months wide"
    )
    response = assessment_pb2.AssessResponse(
        status=regression_pb2.ASSESSMENT_STATUS_ABSTAINED,
        abstention=abstention,
        ungated_age_months=ungated_age_months,
        release="r1",
    )
    return Reading(FILE, ASK, response)


FAILED = Reading(FILE, ASK, None, "not an image")
READINGS = [answered(50), answered(106), answered(200, half_width_months=3), abstained(90), FAILED]
LABELS = [
    Label(48, male=True),
    Label(100, male=True),
    Label(204, male=False),
    Label(60, male=False),
    Label(10, male=True),
]


def test_the_figures_are_those_worked_out_by_hand() -> None:
    """Errors of +2, +6 and -4 months; one abstention that would have erred by 30; one failure."""
    record = evaluate(READINGS, LABELS).record()
    expected = {
        "n": 3, "n_ungated": 4, "n_total": 5, "failed": 1, "abstained": 1, "mae_months": 4.0,
        "mae_ungated_months": 10.5, "mae_male_months": 4.0, "mae_female_months": 4.0,
        "rmse_months": round(math.sqrt(56 / 3), 4), "bias_months": round(4 / 3, 4),
        "coverage_90": round(2 / 3, 4), "release": "r1",
    }  # fmt: skip
    assert {name: record[name] for name in expected} == expected


def test_every_figure_has_its_interval_beside_it() -> None:
    """The keys are those that were promised, and each interval holds its figure."""
    record = evaluate(READINGS, LABELS).record()
    for name, value in record.items():
        if f"{name}_ci95" in record:
            low, high = record[f"{name}_ci95"]
            assert low <= value <= high, name
    assert {name.removesuffix("_ci95") for name in record if name.endswith("_ci95")} == {
        "abstained", "mae_months", "mae_ungated_months", "mae_male_months", "mae_female_months", "rmse_months",
        "bias_months", "coverage_90",
    }  # fmt: skip


def test_a_sex_that_is_not_told_counts_for_neither() -> None:
    """It is among all, and no boy and no girl."""
    readings = [answered(age) for age in (50, 60, 80)]
    labels = [Label(49, male=True), Label(58, male=None), Label(77, male=False)]
    record = evaluate(readings, labels).record()
    assert [record[name] for name in ("mae_months", "mae_male_months", "mae_female_months")] == [2, 1, 3]
    assert [record[name] for name in ("n", "n_male", "n_female")] == [3, 1, 1]


def test_age_bands_are_of_the_true_age_and_leave_no_gap() -> None:
    """47.5 months belong to the first band, 48 to the second; the last has no end."""
    readings = [answered(age) for age in (47, 48, 200)]
    labels = [Label(47.5, male=True), Label(48, male=True), Label(230, male=True)]
    bands = evaluate(readings, labels).record()["by_age_band"]
    assert [(band["low_months"], band["high_months"], band["n"]) for band in bands] == [
        (0, 47, 1), (48, 95, 1), (96, 143, 0), (144, 191, 0), (192, None, 1),
    ]  # fmt: skip
    assert [bands[2][name] for name in ("mae_months", "mae_months_ci95")] == [None, None]


def test_each_band_says_how_many_of_its_intervals_held() -> None:
    """By true and by predicted age: a miss near a border counts in another band for each."""
    readings = [answered(40), answered(47, half_width_months=0.5), answered(50, half_width_months=20)]
    labels = [Label(45, male=True), Label(49, male=True), Label(60, male=True)]
    record = evaluate(readings, labels).record()
    told = ("n", "covered", "coverage", "median_interval_months")
    assert [tuple(band[name] for name in told) for band in record["by_age_band"][:3]] == [
        (1, 1, 1, 20), (2, 1, 0.5, 20.5), (0, 0, None, None),
    ]  # fmt: skip
    assert [tuple(band[name] for name in told) for band in record["by_predicted_age_band"][:3]] == [
        (2, 1, 0.5, 10.5), (1, 1, 1, 40), (0, 0, None, None),
    ]  # fmt: skip
    assert record["median_interval_months"] == 20
    assert record["by_age_band"][0]["coverage_ci95"] == [0.025, 1]


def test_the_table_says_how_often_intervals_hold_by_both_ages() -> None:
    """What the record says of each band stands in the printed table: count, share, exact interval and width."""
    readings = [answered(40), answered(47, half_width_months=0.5), answered(50, half_width_months=20)]
    labels = [Label(45, male=True), Label(49, male=True), Label(60, male=True)]
    columns = table_of(evaluate(readings, labels)).columns
    rows = {cells[0]: cells[1:] for cells in zip(*(column.cells for column in columns), strict=True)}
    assert rows["coverage of the 90% interval"][::3] == ("3", "20.0")
    assert rows["coverage, predicted age 0 to 47"] == ("2", "0.500", "0.013 to 0.987", "10.5")
    assert rows["coverage, true age 48 to 95"] == ("2", "0.500", "0.013 to 0.987", "20.5")
    assert rows["coverage, true age 192 and more"] == ("0", "-", "-", "-")
    assert rows["MAE, months, true age 48 to 95"][0] == "2"


def test_without_any_number_the_figures_are_null() -> None:
    """A folder of failures is reported, not divided by."""
    record = evaluate([FAILED], [Label(10, male=True)]).record()
    assert (record["n"], record["failed"], record["mae_months"], record["release"]) == (0, 1, None, None)


def test_only_labelled_images_of_the_part_are_chosen() -> None:
    """Files without a label or outside the part are left out, and nothing at all is wrong usage."""
    files = [InputFile(Path(f"{name}.png"), name, "encoded") for name in ("1", "2", "3")]
    labels = {"1": Label(1, male=True), "2": Label(2, male=True)}
    assert [item.file.id for item in choose(files, labels, None)] == ["1", "2"]
    assert [item.file.id for item in choose(files, labels, {"2", "3"})] == ["2"]
    with pytest.raises(UsageError):
        choose(files, labels, {"3"})


def test_images_that_the_release_was_trained_on_are_named() -> None:
    """The card's ids are compared with those of the images."""
    chosen = [Labelled(InputFile(Path(f"{n}.png"), f"{n}", "encoded"), Label(1, male=True)) for n in (1, 2, 3)]
    assert in_training(chosen, ["2", "3", "4"]) == ["2", "3"]
