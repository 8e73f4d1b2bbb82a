"""The geometry of a radiograph: what is cut out can be laid back, and sizes change nothing that they should not."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.domain.geometry import scale_square
from services.core.domain.preprocess import (
    FRAME_PX,
    SEGMENT_PX,
    Square,
    crop_square,
    frame_shape,
    hand_image,
    hand_square,
    resize,
    segmenter_input,
    standardise,
    to_frame,
    uncrop_square,
    whole,
)
from services.core.errors import InvalidRadiographError

sides = st.integers(1, 60)
grey = st.floats(0, 1, width=32)


@st.composite
def images(draw, minimum=1):
    """Grey images (H, W) in [0, 1] of any small shape."""
    shape = draw(st.integers(minimum, 60)), draw(st.integers(minimum, 60))
    return draw(arrays(np.float32, shape, elements=grey))


@st.composite
def squares_inside(draw, image):
    """Squares that lie inside an image."""
    side = draw(st.integers(1, min(image.shape)))
    return Square(draw(st.integers(0, image.shape[1] - side)), draw(st.integers(0, image.shape[0] - side)), side)


@st.composite
def masks(draw):
    """Masks (H, W) with at least one pixel."""
    mask = draw(arrays(np.bool_, (draw(sides), draw(sides))))
    assume(mask.any())
    return mask


@given(st.data(), images())
def test_a_crop_at_its_own_size_is_a_slice(data, image):
    """Nothing is resampled where the size does not change."""
    square = data.draw(squares_inside(image))
    inside = image[square.y : square.y + square.side, square.x : square.x + square.side]
    np.testing.assert_array_equal(crop_square(image, square, size_px=square.side), inside)


@given(st.data(), images())
def test_uncrop_inverts_crop(data, image):
    """Laid back, the crop is the image inside the square and zero outside."""
    square = data.draw(squares_inside(image))
    patch = crop_square(image, square, size_px=square.side)
    restored = uncrop_square(patch, square, height=image.shape[0], width=image.shape[1])
    window = np.s_[square.y : square.y + square.side, square.x : square.x + square.side]
    np.testing.assert_array_equal(restored[window], image[window])
    restored[window] = 0
    assert not restored.any()


@given(images())
def test_the_whole_square_holds_every_pixel(image):
    """Padded to a square and laid back, an image is unchanged, and the padding is centred to within a pixel."""
    square = whole(image)
    patch = crop_square(image, square, size_px=square.side)
    restored = uncrop_square(patch, square, height=image.shape[0], width=image.shape[1])
    np.testing.assert_array_equal(restored, image)
    assert square.side == max(image.shape)
    for start, extent in ((-square.x, image.shape[1]), (-square.y, image.shape[0])):
        assert abs(start - (square.side - extent - start)) <= 1


@given(images(), st.integers(-100, 100), st.integers(-100, 100), sides)
def test_outside_the_image_a_crop_is_zero(image, x, y, side):
    """The sum of a crop is that of the image's pixels under it, wherever the square lies."""
    patch = crop_square(image, Square(x, y, side), size_px=side)
    rows = slice(max(y, 0), max(y + side, 0))
    columns = slice(max(x, 0), max(x + side, 0))
    assert patch.sum(dtype=np.float64) == pytest.approx(image[rows, columns].sum(dtype=np.float64), abs=1e-4)


@given(st.data(), images(), st.integers(1, 200), grey)
def test_an_even_crop_stays_even_at_any_size(data, image, size_px, level):
    """Resampling mixes nothing in from outside the square."""
    square = data.draw(squares_inside(image))
    image[square.y : square.y + square.side, square.x : square.x + square.side] = level
    np.testing.assert_allclose(crop_square(image, square, size_px=size_px), level, atol=1e-5)


def test_a_square_needs_a_side():
    """A side below 1 px is refused with its value."""
    with pytest.raises(InvalidRadiographError, match="not 0"):
        Square(0, 0, 0)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_the_frame_has_one_long_side_and_the_aspect(height, width):
    """The long side is FRAME_PX, the short one keeps the aspect to within half a pixel and never vanishes."""
    rows, columns = frame_shape(height, width)
    assert max(rows, columns) == FRAME_PX
    assert min(rows, columns) >= 1
    assert rows == pytest.approx(FRAME_PX * height / max(height, width), abs=1)
    assert columns == pytest.approx(FRAME_PX * width / max(height, width), abs=1)


@given(images(), sides, sides)
def test_the_true_shape_rules_the_aspect(image, height, width):
    """A squashed image gets the frame of its size at acquisition."""
    assert to_frame(image, true_shape=(height, width)).shape == frame_shape(height, width)


@given(images(), sides, sides)
def test_resize_stays_within_the_grey_levels(image, height, width):
    """Neither averaging nor interpolation invents a level."""
    resized = resize(image, height=height, width=width)
    assert resized.shape == (height, width)
    assert resized.dtype == np.float32
    assert image.min() - 1e-5 <= resized.min()
    assert resized.max() <= image.max() + 1e-5


@given(masks(), st.integers(2, 6))
def test_an_enlarged_mask_scales_back(mask, times):
    """Enlarged by a whole factor and shrunk again, every pixel with an unmixed neighbourhood is as it was."""
    height, width = mask.shape
    larger = resize(mask, height=height * times, width=width * times) >= 0.5
    back = resize(larger, height=height, width=width) >= 0.5
    padded = np.pad(mask, 1, mode="edge")
    around = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    even = np.all(around, axis=0) | ~np.any(around, axis=0)
    np.testing.assert_array_equal(back[even], mask[even])


@given(images(minimum=2), st.floats(0.05, 20), st.floats(-10, 10))
def test_standardise_does_not_see_a_linear_change_of_grey(image, gain, offset):
    """Exposure and offset of the detector vanish."""
    assume(np.subtract(*np.percentile(image, (99.5, 2.0))) > 0.05)
    changed = (image.astype(np.float64) * gain + offset).astype(np.float32)
    np.testing.assert_allclose(standardise(changed), standardise(image), atol=2e-3)


@given(images())
def test_standardise_fills_the_unit_interval(image):
    """The result lies in [0, 1]; an image of one grey level is all zero."""
    result = standardise(image)
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert not standardise(np.full_like(image, image.flat[0])).any()


@given(images())
def test_the_segmenter_sees_a_square(image):
    """Any shape is padded to the network's."""
    assert segmenter_input(image).shape == (SEGMENT_PX, SEGMENT_PX)


@given(masks())
def test_the_hands_square_holds_the_mask_with_a_margin(mask):
    """Every pixel of the mask is inside, at least one pixel from each edge, and the mask is centred."""
    square = hand_square(mask)
    rows, columns = np.nonzero(mask)
    for start, places in ((square.y, rows), (square.x, columns)):
        before, after = places.min() - start, start + square.side - (places.max() + 1)
        assert min(before, after) >= 1
        assert abs(before - after) <= 1
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    assert square.side == extent + 2 * max(1, round(extent / 30))


@given(masks())
def test_outside_the_mask_the_hand_is_zero(mask):
    """The background is gone, whatever it was."""
    frame = np.where(mask, np.float32(0.5), np.float32(1))
    frame[tuple(np.argwhere(mask)[0])] = 0
    hand, square = hand_image(frame, mask)
    covered = crop_square(mask, square, size_px=hand.shape[0]) > 0
    assert not hand[~covered].any()


def test_an_empty_mask_has_no_square():
    """It is refused, and the field is named."""
    with pytest.raises(InvalidRadiographError, match="mask: the mask is empty"):
        hand_square(np.zeros((4, 4), np.bool_))


@given(st.integers(-50, 50), st.integers(-50, 50), sides, sides, sides, st.integers(1, 8))
def test_a_square_scales_with_its_image(x, y, side, height, width, times):
    """On an image enlarged by a whole factor a square is that factor larger, and scaled back it is itself."""
    small, large = (height, width), (height * times, width * times)
    scaled = scale_square(Square(x, y, side), source=small, target=large)
    assert scaled == Square(x * times, y * times, side * times)
    assert scale_square(scaled, source=large, target=small) == Square(x, y, side)
