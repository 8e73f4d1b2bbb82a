"""The routing: one study always gets the same release, and a canary gets its share of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain.routing import Routing

releases = st.sampled_from(["2026.1", "2026.2", "2026.3"])


@given(study=st.binary(max_size=80), permille=st.integers(1, 1000), canary=releases)
def test_a_study_always_gets_the_same_release(study, permille, canary):
    """Whoever asks, and whenever: the answer depends on the study and the routing alone."""
    routing = Routing("current", canary=canary, canary_permille=permille)
    chosen = routing.release_for(study)
    assert chosen in {"current", canary}
    assert chosen == Routing("current", previous="other", canary=canary, canary_permille=permille).release_for(study)


@given(study=st.binary(max_size=80), canary=releases, first=st.integers(1, 999))
def test_a_larger_share_keeps_who_was_in_the_smaller(study, canary, first):
    """Raising the share never takes a study back from the canary."""
    small = Routing("current", canary=canary, canary_permille=first)
    large = Routing("current", canary=canary, canary_permille=first + 1)
    assert small.release_for(study) != canary or large.release_for(study) == canary


@pytest.mark.parametrize("permille", [1, 50, 500, 1000])
def test_the_share_is_that_of_the_studies(permille):
    """Of 20,000 studies the canary answers as many as it should, within five standard deviations."""
    routing = Routing("current", canary="new", canary_permille=permille)
    count = sum(routing.release_for(f"1.2.840.{number}".encode()) == "new" for number in range(20_000))
    share = permille / 1000
    assert abs(count - 20_000 * share) <= 5 * (20_000 * share * (1 - share)) ** 0.5 + 1e-9


def test_every_canary_meets_other_studies():
    """The same few patients are not the ones to try every new release."""
    studies = [f"1.2.840.{number}".encode() for number in range(5_000)]
    chosen = [
        {study for study in studies if Routing("current", canary=name, canary_permille=100).release_for(study) == name}
        for name in ("2026.2", "2026.3")
    ]
    both = len(chosen[0] & chosen[1])
    assert both < 0.5 * min(map(len, chosen))


@pytest.mark.parametrize(
    "values",
    [
        {"current": ""},
        {"current": "a", "canary": "b"},
        {"current": "a", "canary_permille": 10},
        {"current": "a", "canary": "b", "canary_permille": 1001},
        {"current": "a", "canary": "b", "canary_permille": -1},
    ],
)
def test_a_routing_that_contradicts_itself_is_refused(values):
    """No current release, or a canary without a share."""
    with pytest.raises(ValueError, match=r"canary|current"):
        Routing(**values)


def test_what_must_be_loaded_is_named_once():
    """A release in two roles is loaded once, the current one first."""
    routing = Routing("b", previous="a", canary="c", canary_permille=5, shadow="a")
    assert routing.releases == ("b", "c", "a")
