"""What a disturbance costs, worked out by hand: errors are compared in pairs, and what is lost is not forgotten."""

from pathlib import Path

import pytest

from benchmarks.robustness import Outcome, cost
from boneage.v1 import assessment_pb2, regression_pb2
from services.cli.files import InputFile
from services.cli.reading import Ask, Reading
from services.cli.tables import Label

ASK = Ask(ungated=True)


def reading(id_, status, ungated_age_months=None):
    """A reading of one file, with 8 months on either side; without a number where no hand was found."""
    file = InputFile(Path(f"{id_}.png"), id_, "encoded")
    if status == "FAILED":
        return Reading(file, ASK, None, "not an image")
    response = assessment_pb2.AssessResponse(
        status=getattr(regression_pb2, f"ASSESSMENT_STATUS_{status}"), ungated_age_months=ungated_age_months
    )
    if status == "OK":
        response.age_months = ungated_age_months
        response.interval_low_months, response.interval_high_months = ungated_age_months - 8, ungated_age_months + 8
    return Reading(file, ASK, response)


def outcome(errors, *, n_total=10, answered=10, failed=0):
    """Errors by place, None where there is no number; those of up to 5 months are within their intervals."""
    numbered = {str(place): error for place, error in enumerate(errors) if error is not None}
    held = {place: error <= 5 for place, error in list(numbered.items())[:answered]}
    return Outcome(n_total, numbered, held, failed)


def test_an_outcome_counts_what_became_of_each():
    """A number that gates held back has its error; what has no hand and what failed has none."""
    readings = [reading("1", "OK", 50), reading("2", "ABSTAINED", 90), reading("3", "ABSTAINED"),
                reading("4", "FAILED")]  # fmt: skip
    labels = {id_: Label(60, male=True) for id_ in "1234"}
    assert Outcome.of(readings, labels) == Outcome(4, {"1": 10, "2": 30}, {"1": False}, failed=1)


def test_what_passes_the_gates_has_figures_of_its_own():
    """How many there are, their MAE, and how many of their intervals hold; nothing of what the gates held back."""
    readings = [reading("1", "OK", 68), reading("2", "OK", 48), reading("3", "ABSTAINED", 160)]
    disturbed = Outcome.of(readings, {id_: Label(60, male=True) for id_ in "123"})
    assert cost(disturbed, disturbed, worse_by=0.1)["passed"] == {"n": 2, "mae_months": 10, "coverage_90": 0.5}
    nothing = outcome([10, None], n_total=2, answered=0)
    assert cost(nothing, disturbed, worse_by=0.1)["passed"] == {"n": 0, "mae_months": None, "coverage_90": None}


def test_errors_are_compared_on_what_both_have_read():
    """An easy radiograph that is lost makes the others no worse, a hard one no better."""
    before = outcome([2, 4, 6, 20], n_total=4, answered=4)
    found = cost(outcome([2, 4, 6, None], n_total=4, answered=3), before, worse_by=0.1)
    assert found["paired"] == {"n": 3, "mae_months": 4, "undisturbed_mae_months": 4}
    assert (found["worse_by"], found["lost"], found["n_ungated"], found["mae_ungated_months"]) == (0, 1, 3, 4)


@pytest.mark.parametrize(
    ("disturbed", "kept"),
    [
        (outcome([10.9] * 10), True),
        (outcome([11.1] * 10), False),
        (outcome([*[10] * 10], answered=9), False),
        (outcome([*[10] * 9, None], answered=9), False),
        (outcome([*[10] * 9, None], answered=9, failed=1), False),
        (outcome([None] * 10, answered=0), False),
    ],
    ids=["less than a tenth worse", "more than a tenth", "one abstained", "one lost", "one failed", "all lost"],
)
def test_what_is_lost_or_failed_counts_as_an_abstention(disturbed, kept):
    """One of ten is more than the 5% that a disturbance may cost, whyever it has no number."""
    assert cost(disturbed, outcome([10] * 10), worse_by=0.1)["kept"] == kept


def test_what_has_a_number_only_disturbed_is_not_compared():
    """There is nothing to compare it with; nor is an abstention less than before held against a disturbance."""
    found = cost(outcome([10, 30], n_total=2, answered=2), outcome([10, None], n_total=2, answered=1), worse_by=0.1)
    assert (found["paired"]["n"], found["worse_by"], found["more_abstained"], found["kept"]) == (1, 0, -0.5, True)
