"""Where things lie on pictures: squares at another size, squashed radiographs, heat maps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assessment.pictures import mask_picture, unsquashed_shape
from services.cam.pipeline import heat_map, overlay
from services.core.domain.geometry import scale_square
from services.core.domain.preprocess import Square, frame_shape
from services.core.domain.reading import Activation

SIDES = st.integers(40, 4000)


@given(SIDES, SIDES, st.integers(-50, 250), st.integers(-50, 250), st.integers(5, 400))
def test_square_keeps_its_place_at_another_size(height: int, width: int, x: int, y: int, side: int) -> None:
    """Its centre moves with the image, and its side grows with the image's, to a pixel."""
    frame = frame_shape(height, width)
    square = Square(x=x, y=y, side=side)
    scaled = scale_square(square, source=frame, target=(height, width))
    vertical, horizontal = height / frame[0], width / frame[1]
    assert scaled.side == pytest.approx(side * max(vertical, horizontal), abs=1)
    assert scaled.x + scaled.side / 2 == pytest.approx((x + side / 2) * horizontal, abs=1)
    assert scaled.y + scaled.side / 2 == pytest.approx((y + side / 2) * vertical, abs=1)


@given(SIDES, SIDES)
def test_radiograph_of_true_aspect_is_not_resized(height: int, width: int) -> None:
    """Rounding to the frame's whole pixels is no squash."""
    assert unsquashed_shape((height, width), frame_shape(height, width)) == (height, width)


def test_squashed_radiograph_gets_its_aspect_back() -> None:
    """The long side stays."""
    assert unsquashed_shape((300, 300), frame_shape(2000, 1000)) == pytest.approx((300, 150), abs=1)


def test_mask_picture_covers_the_same_share() -> None:
    """A mask at another size covers as much of the image."""
    mask = np.zeros((299, 200), bool)
    mask[50:200, 60:120] = True
    picture = mask_picture(mask, (1495, 1000))
    assert set(np.unique(picture)) == {0, 255}
    assert (picture > 0).mean() == pytest.approx(mask.mean(), abs=1e-3)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(-40, 90), st.integers(-40, 90), st.integers(60, 200)
)
def test_map_never_leaves_its_grids_range_nor_its_square(grid: tuple[int, int], x: int, y: int, side: int) -> None:
    """Interpolation invents no contribution, and outside the square there is none."""
    values = np.random.default_rng((x + 40) * 1000 + y + 40).normal(0, 40, grid).astype(np.float32)
    drawn = heat_map(Activation(values, 0.0), Square(x=x, y=y, side=side), shape=(100, 120))
    assert values.min() - 1e-3 <= drawn.low_months <= drawn.high_months <= values.max() + 1e-3
    outside = np.ones((100, 120), bool)
    outside[max(y, 0) : y + side, max(x, 0) : x + side] = False
    assert not drawn.heat[outside].any()


def test_mean_of_the_map_is_the_mean_of_the_grid() -> None:
    """Over the whole square the map says what the grid says."""
    values = np.random.default_rng(0).normal(0, 40, (7, 7)).astype(np.float32)
    drawn = heat_map(Activation(values, 0.0), Square(x=0, y=0, side=700), shape=(700, 700))
    months = drawn.low_months + drawn.heat / 255 * (drawn.high_months - drawn.low_months)
    assert months.mean() == pytest.approx(values.mean(), abs=0.05 * float(np.ptp(values)))


def test_overlay_leaves_the_radiograph_where_nothing_contributes() -> None:
    """Outside the square the picture is the radiograph itself."""
    pixels = np.random.default_rng(0).random((50, 50), np.float32)
    drawn = overlay(pixels, heat_map(Activation(np.eye(2, dtype=np.float32), 0.0), Square(0, 0, 20), shape=(50, 50)))
    assert np.array_equal(drawn[30:, 30:], np.repeat(np.rint(pixels * 255).astype(np.uint8)[30:, 30:, None], 3, axis=2))


def test_overlay_is_plain_where_places_add_the_usual_and_tells_less_from_more() -> None:
    """An even background far from zero stays grey; a place that takes from the age is blue, one that adds orange."""
    values = np.full((7, 7), -40, np.float32)
    values[1, 1], values[5, 5] = -60, -20
    pixels = np.full((70, 70), 0.5, np.float32)
    drawn = overlay(pixels, heat_map(Activation(values, 160.0), Square(0, 0, 70), shape=(70, 70))).astype(int)
    assert np.ptp(drawn[35, 35]) <= 1
    assert np.ptp(drawn[5, 65]) <= 1
    blue, _, red = drawn[15, 15]
    assert blue > red + 50
    blue, _, red = drawn[55, 55]
    assert red > blue + 50
