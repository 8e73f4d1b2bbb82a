"""The enhancement service over a real socket, with a generator that changes nothing or everything."""

from pathlib import Path

import numpy as np
import pytest

from boneage.v1 import common_pb2, enhancement_pb2, enhancement_pb2_grpc
from services.core.domain.preprocess import HAND_PX
from services.core.errors import InvalidRadiographError, UnknownReleaseError
from tests.models import Variations, hand_picture, write_repository
from tests.serving import as_png, as_raw, channel_to, encode_png, refused, running


def request(height: int = 640, width: int = 500) -> enhancement_pb2.EnhanceRequest:
    """A radiograph with the mask of its hand."""
    picture = hand_picture(height, width)
    mask = common_pb2.Mask(png=encode_png((picture > 0.25).astype(np.uint8) * 255))
    return enhancement_pb2.EnhanceRequest(radiograph=as_png(picture), mask=mask)


async def enhance(
    folder: Path, request: enhancement_pb2.EnhanceRequest, variations: Variations | None = None
) -> enhancement_pb2.EnhanceResponse:
    """The reply of a running service."""
    async with (
        running("enhancement", model_repository=write_repository(folder, variations)) as process,
        channel_to(process) as channel,
    ):
        return await enhancement_pb2_grpc.EnhancementServiceStub(channel).Enhance(request)


async def test_hand_comes_cropped_with_its_background_zero(tmp_path: Path) -> None:
    """The hand is float32 in [0, 1] in the regression's size, dark around the hand and not in it."""
    reply = await enhance(tmp_path, request())
    hand = np.frombuffer(reply.hand.data, "<f4").reshape(HAND_PX, HAND_PX)
    assert reply.hand.format == common_pb2.PIXEL_FORMAT_FLOAT32
    assert 0 <= hand.min() < hand.max() <= 1
    assert hand[:, :5].max() == 0
    assert (hand > 0).mean() > 0.2
    assert reply.enhanced


async def test_crop_is_in_the_radiographs_pixels(tmp_path: Path) -> None:
    """The square covers the mask of the radiograph that was sent, whatever the frame's size."""
    reply = await enhance(tmp_path, request(1280, 1000))
    rows, columns = np.nonzero(hand_picture(1280, 1000) > 0.25)
    assert reply.crop.x <= columns.min() <= columns.max() < reply.crop.x + reply.crop.side
    assert reply.crop.y <= rows.min() <= rows.max() < reply.crop.y + reply.crop.side
    assert reply.crop.side < 1.15 * (rows.max() - rows.min())


async def test_generator_that_invents_structure_is_not_used(tmp_path: Path) -> None:
    """The hand stays as it was, the same as where the generator changes nothing."""
    inventing = await enhance(tmp_path / "inventing", request(), Variations(inventing=True))
    plain = await enhance(tmp_path / "plain", request())
    assert not inventing.enhanced
    assert inventing.structure_change > 0.5 > plain.structure_change
    assert inventing.hand.data == plain.hand.data


async def test_negative_is_prepared_as_its_positive(tmp_path: Path) -> None:
    """Bone dark and air bright: the hand is the same, to a grey level or two, and the answer tells."""
    positive, negative = request(), request()
    negative.radiograph.CopyFrom(as_png(np.float32(1) - hand_picture(640, 500)))
    one, other = [await enhance(tmp_path / name, asked) for name, asked in (("one", positive), ("other", negative))]
    assert (one.negative, other.negative) == (False, True)
    hands = [np.frombuffer(reply.hand.data, "<f4") for reply in (one, other)]
    np.testing.assert_allclose(*hands, atol=2 / 255)


@pytest.mark.parametrize(
    ("mask", "field", "reason"),
    [
        (b"", "mask.png", "not a PNG"),
        (encode_png(np.zeros((5, 5), np.uint8)), "mask.png", "5 x 5 pixels, the radiograph 640 x 500"),
        (encode_png(np.zeros((640, 500), np.uint8)), "mask", "empty"),
        (encode_png(np.zeros((640, 500), np.uint8))[:60], "mask.png", "damaged"),
    ],
    ids=["nothing", "other size", "empty", "truncated"],
)
async def test_bad_mask_is_refused_with_field_and_reason(tmp_path: Path, mask: bytes, field: str, reason: str) -> None:
    """A mask must be a PNG of the radiograph's size that shows a hand."""
    bad = request()
    bad.mask.png = mask
    with refused(InvalidRadiographError, field=field, reason=reason):
        await enhance(tmp_path, bad)


async def test_unknown_release_is_refused(tmp_path: Path) -> None:
    """Nothing else answers for a release that is not served."""
    asked = enhancement_pb2.EnhanceRequest(radiograph=as_raw(hand_picture()), release="nowhere")
    with refused(UnknownReleaseError, field="release", reason="'nowhere'"):
        await enhance(tmp_path, asked)
