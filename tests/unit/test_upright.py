"""Which quarter turn's mask is taken, where that of the hand as it came is doubted."""

from hypothesis import given
from hypothesis import strategies as st

from services.core.domain.upright import PIECE, surest_turn

TURNS = 4
SHARES = st.lists(st.floats(0, 1), min_size=TURNS, max_size=TURNS)


@given(SHARES, SHARES)
def test_the_most_certain_mask_that_is_no_piece_is_taken(certainties: list[float], areas: list[float]) -> None:
    """None of at least half the area of the first is more certain; the first stays where none is."""
    turn = surest_turn(certainties, areas)
    assert areas[turn] >= PIECE * areas[0]
    assert all(certainties[turn] >= certainties[other] for other in range(TURNS) if areas[other] >= PIECE * areas[0])
    assert turn == 0 or certainties[turn] > certainties[0]


@given(SHARES)
def test_a_piece_is_not_taken_however_certain(certainties: list[float]) -> None:
    """Of masks that all cover less than half of the first, none is taken."""
    assert surest_turn(certainties, [0.4, 0.19, 0.1, 0.0]) == 0
