"""Translation between messages and the domain, both ways."""

import numpy as np
import pytest

from boneage.v1 import common_pb2
from services.core.adapters import wire
from services.core.adapters.imaging import Limits
from services.core.domain.contracts import SEX_ORDER
from services.core.domain.gates import Abstention, Reason
from services.core.domain.preprocess import Square
from services.core.domain.reading import Activation, ModelVersion
from services.core.errors import ImageTooLargeError, InvalidRadiographError, InvalidRequestError


def test_every_sex_and_every_reason_has_a_number_on_the_wire() -> None:
    """No name is left out of the tables, and each comes back as itself."""
    assert {wire.SEX_FROM_WIRE[wire.SEX_TO_WIRE[sex]] for sex in SEX_ORDER} == set(SEX_ORDER)
    assert {wire.REASON_FROM_WIRE[wire.REASON_TO_WIRE[reason]] for reason in Reason} == set(Reason)
    assert len(common_pb2.Sex.values()) == len(SEX_ORDER) + 1
    assert len(common_pb2.AbstentionReason.values()) == len(Reason) + 1


def test_unspecified_sex_is_none() -> None:
    """Not said is not the same as said to be unknown."""
    assert wire.sex_from_wire(common_pb2.SEX_UNSPECIFIED) is None
    assert wire.sex_from_wire(common_pb2.SEX_UNKNOWN) == "unknown"


def test_mask_comes_back_as_it_was() -> None:
    """A mask survives the wire pixel by pixel."""
    mask = np.random.default_rng(0).random((37, 53)) > 0.5
    assert np.array_equal(wire.mask_from_wire(wire.mask_to_wire(mask), shape=(37, 53)), mask)


def test_mask_of_another_size_is_refused_before_it_is_decoded() -> None:
    """A small file that claims to be huge costs nothing: its header is enough to refuse it."""
    honest = wire.png(np.zeros((8, 8), np.uint8))
    huge = honest[:16] + (60_000).to_bytes(4, "big") * 2 + honest[24:]
    with pytest.raises(InvalidRadiographError, match="60000 x 60000 pixels, the radiograph 8 x 8"):
        wire.mask_from_wire(common_pb2.Mask(png=huge), shape=(8, 8))


def test_grey_levels_come_back_as_they_were() -> None:
    """float32 pixels survive exactly, by the decoder for strangers and by the one for our own services."""
    image = np.random.default_rng(0).random((31, 17), np.float32)
    raw = wire.raw_float32(image)
    assert np.array_equal(wire.float32_from_wire(raw), image)
    decoded = wire.radiograph(common_pb2.Radiograph(raw=raw), limits=Limits())
    assert np.array_equal(decoded.pixels, image)


def test_rounding_beyond_one_is_no_reason_to_refuse() -> None:
    """An area average of ones may end a hair above one; it is sent as one."""
    image = np.full((4, 4), np.nextafter(np.float32(1), np.float32(2)))
    assert wire.float32_from_wire(wire.raw_float32(image)).max() == 1


def test_activation_comes_back_as_it_was() -> None:
    """Grid and bias survive exactly."""
    activation = Activation(np.random.default_rng(0).normal(0, 50, (7, 5)).astype(np.float32), bias_months=90.5)
    found = wire.activation_from_wire(wire.activation_to_wire(activation))
    assert np.array_equal(found.values_months, activation.values_months)
    assert found.bias_months == activation.bias_months


def test_small_parts_come_back_as_they_were() -> None:
    """Square, abstention and model survive exactly; no square and no abstention stay unset."""
    square, abstention = Square(x=-7, y=3, side=90), Abstention(Reason.NOT_UPRIGHT, "turned by 90 degrees")
    on_wire = wire.square_to_wire(square), wire.abstention_to_wire(abstention)
    assert on_wire[0] is not None
    assert on_wire[1] is not None
    assert wire.square_from_wire(on_wire[0]) == square
    assert wire.abstention_from_wire(on_wire[1]) == abstention
    model = ModelVersion("hand_segmenter", 3)
    assert wire.model_from_wire(wire.model_to_wire(model)) == model
    assert wire.square_to_wire(None) is None
    assert wire.abstention_to_wire(None) is None


def test_error_names_the_field_of_the_request_it_came_with() -> None:
    """A decoder knows only `radiograph`; the message it stood in may call it otherwise."""
    hand = common_pb2.Radiograph(dicom=b"")
    with pytest.raises(InvalidRadiographError) as caught:
        wire.radiograph(hand, limits=Limits(), field="hand")
    assert caught.value.field == "hand.dicom"


def test_kind_of_error_survives_the_renaming() -> None:
    """The limit on pixels is told from other faults."""
    huge = common_pb2.Radiograph(raw=common_pb2.RawPixels(size=common_pb2.PixelSize(height=20_000, width=20_000)))
    huge.raw.format = common_pb2.PIXEL_FORMAT_UINT8
    with pytest.raises(ImageTooLargeError) as caught:
        wire.radiograph(huge, limits=Limits())
    assert caught.value.field == "radiograph.raw.size"


def test_half_a_true_size_is_refused() -> None:
    """Height without width gives no aspect."""
    message = common_pb2.Radiograph(true_size=common_pb2.PixelSize(height=3))
    with pytest.raises(InvalidRequestError, match="at least 1"):
        wire.true_shape(message)
