"""Which activation maps go onto the sheet by age and sex."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contact_sheet import LAST_MONTHS, Reading, band_of, representative

AGES = st.floats(0, 240)


@given(st.lists(st.tuples(AGES, AGES), min_size=1, max_size=30))
def test_each_column_shows_its_smallest_and_its_largest_discrepancy_once(ages):
    """With one in the middle where there are three, in order, and none twice."""
    readings = [Reading(str(number), true, read) for number, (true, read) in enumerate(ages)]
    for band, (first, middle, last) in representative(readings).items():
        there = [abs(reading.discrepancy) for reading in readings if band_of(reading.true) == band]
        shown = [reading for reading in (first, middle, last) if reading is not None]
        assert abs(first.discrepancy) == min(there)
        assert abs(shown[-1].discrepancy) == max(there)
        assert len({reading.id for reading in shown}) == len(shown) == min(3, len(there))
        assert [abs(reading.discrepancy) for reading in shown] == sorted(abs(reading.discrepancy) for reading in shown)


def test_two_years_share_a_column_and_the_last_has_no_end():
    """From 18 years on."""
    assert [band_of(months) for months in (0, 23.9, 24, 215, 216, 240)] == [0, 0, 1, 8, 9, 9]
    assert band_of(LAST_MONTHS) == band_of(1000)
