"""What the gate lets through and what it stops, and with which reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ConfigurationError
from services.release.gate import Criteria, canary_reasons, check_sources, mae_reason, shadow_reasons
from services.release.ports import Totals

CRITERIA = Criteria(failed_share=0.01, latency_ratio=1.5, difference_months=6.0, abstained_share=0.05)
GOOD_SHADOW = Totals(shadowed=100, shadow_abstained=2, compared=98, difference_months=98 * 2.0)
CURRENT = Totals(answered=980, abstained=20, seconds=300.0)
GOOD_CANARY = Totals(answered=98, abstained=2, seconds=32.0)


def test_a_release_that_agrees_goes_on():
    """Nothing speaks against it."""
    assert shadow_reasons(CRITERIA, GOOD_SHADOW, CURRENT) == []
    assert canary_reasons(CRITERIA, GOOD_CANARY, CURRENT) == []


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Totals(shadowed=100, shadow_failed=2, compared=98, difference_months=98), "2.0% of its readings failed"),
        (Totals(shadowed=100, compared=100, difference_months=900.0), "differ by 9.0 months"),
        (Totals(shadowed=100, shadow_abstained=10, compared=90, difference_months=90), "abstains from 10.0%"),
        (Totals(shadowed=100, shadow_abstained=100), "none of its ages could be compared"),
    ],
)
def test_a_shadow_that_departs_is_stopped(candidate, reason):
    """The reason has the figure and the limit."""
    assert any(reason in found for found in shadow_reasons(CRITERIA, candidate, CURRENT))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Totals(answered=97, failed=3, seconds=30.0), "3.0% of its assessments failed"),
        (Totals(answered=100, seconds=60.0), "2.00 times as long"),
        (Totals(answered=80, abstained=20, seconds=30.0), "abstains from 20.0%"),
    ],
)
def test_a_canary_that_is_worse_is_stopped(candidate, reason):
    """Failures, time and abstentions are all held against the current release's."""
    assert any(reason in found for found in canary_reasons(CRITERIA, candidate, CURRENT))


def test_failures_of_both_are_nobodys_fault():
    """Where the current release fails as often, the canary is not to blame."""
    current = Totals(answered=950, failed=50, seconds=300.0)
    assert canary_reasons(CRITERIA, Totals(answered=95, failed=5, seconds=30.0), current) == []


def test_error_against_readings_needs_readings():
    """The criterion refuses to be switched on while nothing could answer it."""
    asked = Criteria(0.01, 1.5, 6.0, 0.05, mae_months=8.0)
    with pytest.raises(ConfigurationError, match="no source of readings") as caught:
        check_sources(asked, None)
    assert caught.value.field == "BONEAGE_GATE_MAE_MONTHS"
    check_sources(CRITERIA, None)


@pytest.mark.parametrize(("mae_months", "stopped"), [(7.9, False), (8.0, False), (8.1, True), (None, True)])
def test_error_against_readings_is_judged(mae_months, stopped):
    """Too few readings are no reason to let a release through."""
    asked = Criteria(0.01, 1.5, 6.0, 0.05, mae_months=8.0)
    assert bool(mae_reason(asked, mae_months)) == stopped
    assert mae_reason(CRITERIA, mae_months) == ""


counts = st.integers(0, 10_000)


@given(answered=counts, abstained=counts, failed=counts, more=st.integers(1, 1000))
def test_more_failures_never_help(answered, abstained, failed, more):
    """Whoever is stopped for failing is stopped with one failure more, too."""
    few = Totals(answered=answered, abstained=abstained, failed=failed, seconds=1.0)
    many = Totals(answered=answered, abstained=abstained, failed=failed + more, seconds=1.0)
    stopped = [any("failed" in r for r in canary_reasons(CRITERIA, totals, CURRENT)) for totals in (few, many)]
    assert stopped[0] <= stopped[1]
