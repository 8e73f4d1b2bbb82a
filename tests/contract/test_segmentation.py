"""The segmentation service over a real socket, with a model that takes what is bright for the hand."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from boneage.v1 import common_pb2, segmentation_pb2, segmentation_pb2_grpc
from services.core.errors import InvalidRadiographError, InvalidRequestError, UnknownReleaseError
from tests.models import RELEASE_ID, Variations, hand_picture, write_repository
from tests.serving import as_png, as_raw, channel_to, decode_png, refused, running

Stub: TypeAlias = "segmentation_pb2_grpc.SegmentationServiceAsyncStub"


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    """A client of a running service."""
    async with (
        running("segmentation", model_repository=write_repository(tmp_path)) as process,
        channel_to(process) as channel,
    ):
        yield segmentation_pb2_grpc.SegmentationServiceStub(channel)


async def test_mask_has_the_radiographs_size_and_covers_the_hand(stub: Stub) -> None:
    """The mask is a PNG of 0 and 255 in the radiograph's size, and what is bright is inside."""
    picture = hand_picture(640, 500)
    reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_png(picture)))
    mask = decode_png(reply.mask.png)
    assert mask.shape == picture.shape
    assert set(np.unique(mask)) == {0, 255}
    assert ((mask > 0) == (picture > 0.25)).mean() > 0.97
    assert reply.foreground_fraction == pytest.approx((mask > 0).mean())


async def test_a_negative_is_segmented_as_its_positive(stub: Stub) -> None:
    """Though the model alone finds but the brightest bone in a negative."""
    picture = hand_picture(640, 500)
    asked = [segmentation_pb2.SegmentRequest(radiograph=as_png(shown)) for shown in (picture, np.float32(1) - picture)]
    one, other = [decode_png((await stub.Segment(request)).mask.png) for request in asked]
    assert ((other > 0) == (picture > 0.25)).mean() > 0.97
    assert ((one > 0) == (other > 0)).mean() > 0.99


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
async def test_what_the_model_doubts_is_segmented_in_quarter_turns(tmp_path: Path, quarter: int) -> None:
    """Though it is certain of hands with their fingers up alone: however one lies, its mask is the upright one's."""
    picture = hand_picture(640, 500)
    lying = as_png(np.ascontiguousarray(np.rot90(picture, quarter)))
    repository = write_repository(tmp_path, Variations(doubts_what_lies=True))
    async with running("segmentation", model_repository=repository) as process, channel_to(process) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=lying))
    assert not reply.HasField("abstention")
    assert ((np.rot90(decode_png(reply.mask.png), -quarter) > 0) == (picture > 0.25)).mean() > 0.97


async def test_crop_is_the_square_around_the_mask(stub: Stub) -> None:
    """The crop holds every pixel of the mask, in the radiograph's own pixels."""
    reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_png(hand_picture(640, 500))))
    rows, columns = np.nonzero(decode_png(reply.mask.png))
    assert reply.crop.x < columns.min() <= columns.max() < reply.crop.x + reply.crop.side
    assert reply.crop.y < rows.min() <= rows.max() < reply.crop.y + reply.crop.side


async def test_reply_names_model_and_release(stub: Stub) -> None:
    """The current release answers where none was asked for, and says so."""
    reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_raw(hand_picture())))
    assert (reply.model.name, reply.model.version, reply.release) == ("hand_segmenter", 1, RELEASE_ID)
    assert not reply.HasField("abstention")


async def test_image_without_contrast_is_refused_with_its_reason(stub: Stub) -> None:
    """An even grey image is an image, but none to read."""
    flat = np.full((300, 200), 0.5, np.float32)
    reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_raw(flat)))
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_LOW_CONTRAST
    assert "below 0.2" in reply.abstention.explanation


async def test_image_without_a_hand_is_refused_with_its_reason(stub: Stub) -> None:
    """A few bright pixels are no hand."""
    picture = np.random.default_rng(0).uniform(0, 0.1, (300, 200)).astype(np.float32)
    picture[140:150, 90:100] = 1
    reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_raw(picture)))
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_NO_HAND


async def test_true_size_restores_the_aspect_before_the_network(stub: Stub) -> None:
    """A squashed radiograph is segmented as the hand that it was."""
    squashed = as_png(hand_picture(300, 300))
    squashed.true_size.height, squashed.true_size.width = 400, 300
    reply = await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=squashed))
    assert decode_png(reply.mask.png).shape == (300, 300)
    assert reply.foreground_fraction == pytest.approx((hand_picture(300, 300) > 0.25).mean(), abs=0.02)


RAW = common_pb2.RawPixels(
    size=common_pb2.PixelSize(height=2, width=2), format=common_pb2.PIXEL_FORMAT_UINT8, data=bytes(4)
)


def raw(**changes: object) -> common_pb2.Radiograph:
    """A small radiograph as raw pixels with something wrong in it."""
    message = common_pb2.Radiograph(raw=RAW)
    for name, value in changes.items():
        setattr(message.raw, name, value)
    return message


@pytest.mark.parametrize(
    ("radiograph", "kind", "field", "reason"),
    [
        (common_pb2.Radiograph(), InvalidRequestError, "radiograph", "nothing was sent"),
        (raw(data=bytes(3)), InvalidRadiographError, "radiograph.raw.data", "4 bytes, not 3"),
        (raw(format=0), InvalidRadiographError, "radiograph.raw.format", "UINT8"),
        (
            as_raw(np.full((2, 2), np.nan, np.float32)),
            InvalidRadiographError,
            "radiograph.raw.data",
            "not numbers",
        ),
        (
            common_pb2.Radiograph(raw=RAW, true_size=common_pb2.PixelSize(height=3)),
            InvalidRequestError,
            "radiograph.true_size",
            "at least 1",
        ),
    ],
)
async def test_bad_input_is_refused_with_field_and_reason(
    stub: Stub, radiograph: common_pb2.Radiograph, kind: type[InvalidRequestError], field: str, reason: str
) -> None:
    """INVALID_ARGUMENT says where the fault is and what it is, and the next call is answered."""
    with refused(kind, field=field, reason=reason):
        await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=radiograph))
    assert await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_raw(hand_picture())))


async def test_unknown_release_is_refused(stub: Stub) -> None:
    """Nothing else answers for a release that is not served."""
    with refused(UnknownReleaseError, field="release", reason="'nowhere'"):
        await stub.Segment(segmentation_pb2.SegmentRequest(radiograph=as_raw(hand_picture()), release="nowhere"))
