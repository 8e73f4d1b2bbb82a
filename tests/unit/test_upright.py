"""Which quarter turn's mask is taken, where that of the hand as it came is doubted."""

from hypothesis import given
from hypothesis import strategies as st

from services.core.domain.upright import DOUBTFUL, QUARTERS, trusted

CERTAINTIES = st.lists(st.floats(0.5, 1), min_size=len(QUARTERS), max_size=len(QUARTERS))


@given(CERTAINTIES)
def test_the_most_certain_turn_is_trusted_beyond_doubt_alone(certainties: list[float]) -> None:
    """No turn is more certain than the trusted one; none is trusted where the most certain is doubted."""
    turn = trusted(certainties)
    if turn:
        assert certainties[QUARTERS.index(turn)] == max(certainties) >= DOUBTFUL
    else:
        assert max(certainties) < DOUBTFUL
