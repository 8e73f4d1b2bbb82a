"""The CAM service over a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from boneage.v1 import cam_pb2, cam_pb2_grpc, common_pb2
from services.core.domain.preprocess import HAND_PX
from services.core.errors import BoneageError, InvalidRadiographError, InvalidRequestError, UnknownReleaseError
from tests.models import RELEASE_ID, hand_picture, write_repository
from tests.serving import as_raw, channel_to, decode_png, refused, running

Stub: TypeAlias = "cam_pb2_grpc.CamServiceAsyncStub"

CROP = common_pb2.Square(x=20, y=40, side=200)
GRID = common_pb2.ActivationGrid(
    size=common_pb2.PixelSize(height=2, width=2), values_months=[0, 0, 0, 100], bias_months=90
)


def request(**fields: Any) -> cam_pb2.ExplainRequest:
    """A radiograph of 320 x 260 with a grid that lies on its hand, brightest in the lower right quarter."""
    given = {"radiograph": as_raw(hand_picture()), "crop": CROP, "activation": GRID, **fields}
    return cam_pb2.ExplainRequest(**given)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    """A client of a running service."""
    async with (
        running("cam", model_repository=write_repository(tmp_path)) as process,
        channel_to(process) as channel,
    ):
        yield cam_pb2_grpc.CamServiceStub(channel)


async def test_map_lies_where_the_grid_says(stub: Stub) -> None:
    """The hottest quarter of the crop is the hottest cell's, and nothing is outside the crop."""
    reply = await stub.Explain(request())
    heat = decode_png(reply.heat_png)
    assert heat.shape == (320, 260)
    assert heat[230, 210] == heat.max() == 255
    assert heat[45, 25] == heat[230, 25] == 0
    outside = np.ones(heat.shape, bool)
    outside[40:240, 20:220] = False
    assert not heat[outside].any()
    assert (reply.low_months, reply.high_months) == (0, 100)


async def test_overlay_is_a_colour_picture_of_the_radiographs_size(stub: Stub) -> None:
    """Where nothing contributes the radiograph stays grey."""
    overlay = decode_png((await stub.Explain(request())).overlay_png)
    assert overlay.shape == (320, 260, 3)
    assert np.ptp(overlay[10, 10]) == 0
    assert np.ptp(overlay[225, 205].astype(int)) > 30


async def test_overlay_can_be_left_out(stub: Stub) -> None:
    """Who asks for the map alone gets no picture."""
    reply = await stub.Explain(request(omit_overlay=True))
    assert not reply.overlay_png
    assert reply.heat_png


async def test_grid_that_came_along_needs_no_model(stub: Stub) -> None:
    """The reply gives the grid back and names no model."""
    reply = await stub.Explain(request())
    assert reply.activation == GRID
    assert not reply.HasField("model")
    assert reply.release == RELEASE_ID


async def test_model_is_run_where_no_grid_came_along(stub: Stub) -> None:
    """The grid of the hand is computed, and the model that did it named."""
    asked = request(hand=as_raw(np.full((HAND_PX, HAND_PX), 0.5, np.float32)), sex=common_pb2.SEX_MALE)
    asked.ClearField("activation")
    reply = await stub.Explain(asked)
    assert np.mean(reply.activation.values_months) == pytest.approx(30, abs=1e-3)
    assert reply.model.name == "boneage_regressor"


@pytest.mark.parametrize("crop", [CROP, common_pb2.Square(x=-100, y=-100, side=600)])
async def test_even_grid_gives_an_even_map(stub: Stub, crop: common_pb2.Square) -> None:
    """No contrast is invented, in a crop inside the radiograph or around it."""
    even = common_pb2.ActivationGrid(size=common_pb2.PixelSize(height=1, width=1), values_months=[5])
    reply = await stub.Explain(request(activation=even, crop=crop))
    assert reply.low_months == reply.high_months == 5
    assert not decode_png(reply.heat_png).any()


def grid(values: list[float], *, height: int = 2, width: int = 2) -> common_pb2.ActivationGrid:
    """A grid as given, right or wrong."""
    return common_pb2.ActivationGrid(size=common_pb2.PixelSize(height=height, width=width), values_months=values)


@pytest.mark.parametrize(
    ("change", "kind", "field", "reason"),
    [
        ({"crop": None}, InvalidRequestError, "crop", "which square"),
        ({"crop": common_pb2.Square(side=0)}, InvalidRadiographError, "crop.side", "at least 1"),
        ({"crop": common_pb2.Square(x=5000, side=10)}, InvalidRequestError, "crop", "outside the radiograph"),
        ({"activation": grid([1, 2, 3])}, InvalidRequestError, "activation.values_months", "needs 4 values, not 3"),
        ({"activation": grid([], height=0)}, InvalidRequestError, "activation.size", "0 x 2"),
        ({"activation": grid([1], height=9999, width=9999)}, InvalidRequestError, "activation.size", "9999"),
        ({"activation": grid([1, 2, 3, np.nan])}, InvalidRequestError, "activation.values_months", "finite"),
        ({"activation": None}, InvalidRequestError, "hand", "nothing was sent"),
        ({"radiograph": None}, InvalidRequestError, "radiograph", "nothing was sent"),
        ({"release": "nowhere"}, UnknownReleaseError, "release", "'nowhere'"),
    ],
)
async def test_bad_input_is_refused_with_field_and_reason(
    stub: Stub, change: dict[str, Any], kind: type[BoneageError], field: str, reason: str
) -> None:
    """INVALID_ARGUMENT says where the fault is and what it is."""
    with refused(kind, field=field, reason=reason):
        await stub.Explain(request(**change))
