"""What the benchmark does to radiographs before they are read."""

import numpy as np
import pytest

from benchmarks.disturbances import DISTURBANCES, HARD

HEIGHT, WIDTH = 299, 201
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
GREY = (40 + 120 * np.exp(-((ROWS - 150) ** 2 + (COLUMNS - 80) ** 2) / 4000) + ROWS % 7).astype(np.uint8)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbance_changes_the_image_and_nothing_else(name):
    """Each gives a grey 8-bit image, another one than it got, the same every time, and leaves the original alone."""
    before = GREY.copy()
    once, again = DISTURBANCES[name](GREY), DISTURBANCES[name](GREY)
    assert once.dtype == np.uint8
    assert once.ndim == 2
    assert np.array_equal(once, again)
    assert np.array_equal(GREY, before)
    assert (once.shape == GREY.shape and np.array_equal(once, GREY)) == (name == "as it is")


def test_amounts_are_what_their_names_say():
    """Grey levels, spread, sizes and noise, each against its definition."""
    assert np.abs(DISTURBANCES["brightness x0.5"](GREY).astype(int) - GREY / 2).max() <= 0.5
    narrow = DISTURBANCES["contrast x0.5"](GREY)
    assert narrow.std() / GREY.std() == pytest.approx(0.5, abs=0.01)
    assert narrow.mean() == pytest.approx(GREY.mean(), abs=0.5)
    assert np.array_equal(DISTURBANCES["inversion"](GREY), 255 - GREY)
    assert DISTURBANCES["downsample 150"](GREY).shape == (150, 101)
    assert DISTURBANCES["white border"](GREY).shape == (HEIGHT + 60, WIDTH + 60)
    assert np.std(DISTURBANCES["noise 0.05"](GREY) - GREY.astype(float)) == pytest.approx(0.05 * 255, rel=0.02)
    assert np.array_equal(DISTURBANCES["rotate 90"](GREY).shape, (WIDTH, HEIGHT))


def test_hard_ones_are_among_them():
    """No name is misspelt."""
    assert set(DISTURBANCES) >= HARD
