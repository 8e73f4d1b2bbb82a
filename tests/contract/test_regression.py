"""The regression service over a real socket, with a model whose ages can be worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boneage.v1 import common_pb2, regression_pb2, regression_pb2_grpc
from services.core.domain.preprocess import HAND_PX
from services.core.errors import InvalidRequestError, UnknownReleaseError
from tests.models import BIAS_MONTHS, HALF_WIDTH_MONTHS, MONTHS_PER_BRIGHTNESS, RELEASE_ID, Variations, write_repository
from tests.serving import as_raw, channel_to, refused, running

BRIGHTNESS = 0.5
HAND = np.full((HAND_PX, HAND_PX), BRIGHTNESS, np.float32)


def request(**fields: Any) -> regression_pb2.EstimateBoneAgeRequest:
    """An even hand of half brightness."""
    return regression_pb2.EstimateBoneAgeRequest(**{"hand": as_raw(HAND), **fields})


async def read(
    folder: Path, request: regression_pb2.EstimateBoneAgeRequest, variations: Variations | None = None
) -> regression_pb2.EstimateBoneAgeResponse:
    """The reply of a running service."""
    async with (
        running("regression", model_repository=write_repository(folder, variations)) as process,
        channel_to(process) as channel,
    ):
        return await regression_pb2_grpc.RegressionServiceStub(channel).EstimateBoneAge(request)


@pytest.mark.parametrize(
    ("sex", "row"),
    [
        (common_pb2.SEX_MALE, 0),
        (common_pb2.SEX_FEMALE, 1),
        (common_pb2.SEX_UNKNOWN, 2),
        (common_pb2.SEX_UNSPECIFIED, 2),
    ],
)
async def test_age_is_that_of_the_sex(tmp_path: Path, sex: "common_pb2.Sex.ValueType", row: int) -> None:
    """Each sex reads its own output; unspecified reads as unknown."""
    reply = await read(tmp_path, request(sex=sex))
    expected = BIAS_MONTHS[row] + BRIGHTNESS * MONTHS_PER_BRIGHTNESS[row]
    assert reply.status == regression_pb2.ASSESSMENT_STATUS_OK
    assert reply.age_months == pytest.approx(expected, abs=1e-3)
    assert reply.interval_low_months == pytest.approx(expected - HALF_WIDTH_MONTHS, abs=1e-3)
    assert reply.interval_high_months == pytest.approx(expected + HALF_WIDTH_MONTHS, abs=1e-3)
    assert (reply.model.name, reply.release) == ("boneage_regressor", RELEASE_ID)


async def test_mean_of_the_activation_plus_the_bias_is_the_age(tmp_path: Path) -> None:
    """The grid explains the number exactly."""
    reply = await read(tmp_path, request(sex=common_pb2.SEX_FEMALE))
    assert len(reply.activation.values_months) == reply.activation.size.height * reply.activation.size.width
    explained = np.mean(reply.activation.values_months) + reply.activation.bias_months
    assert explained == pytest.approx(reply.age_months, rel=1e-5)


async def test_hand_of_another_shape_is_padded_to_a_square(tmp_path: Path) -> None:
    """An oblong keeps its aspect, so that the half of the square beside it is dark."""
    reply = await read(tmp_path, request(hand=as_raw(np.full((400, 200), BRIGHTNESS, np.float32))))
    expected = BIAS_MONTHS[2] + BRIGHTNESS / 2 * MONTHS_PER_BRIGHTNESS[2]
    assert reply.age_months == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_hand_that_lies_is_read_upright(tmp_path: Path, turns: int) -> None:
    """However it lies: its age is that of the upright hand, and the activation lies on the hand as it came."""
    upright = HAND.copy()
    upright[: HAND_PX // 4] = 1
    upright[HAND_PX // 2 :, : HAND_PX // 4] = 0.45
    lying = np.ascontiguousarray(np.rot90(upright, -turns))
    reply = await read(tmp_path, request(hand=as_raw(lying)), Variations(least_top=0.05))
    assert reply.status == regression_pb2.ASSESSMENT_STATUS_OK
    assert reply.quarter_turns == turns
    assert reply.age_months == pytest.approx(BIAS_MONTHS[2] + lying.mean() * MONTHS_PER_BRIGHTNESS[2], abs=1e-3)
    grid = np.array(reply.activation.values_months).reshape(reply.activation.size.height, -1)
    cell = HAND_PX // len(grid)
    cells = lying.reshape(len(grid), cell, len(grid), cell).mean(axis=(1, 3))
    np.testing.assert_allclose(grid, cells * MONTHS_PER_BRIGHTNESS[2], atol=1e-3)


async def test_hand_that_is_upright_in_no_turn_gets_no_number(tmp_path: Path) -> None:
    """An even one has no top; what the gates held back is that of the hand as it came."""
    reply = await read(tmp_path, request(report_ungated=True), Variations(least_top=0.05))
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_NOT_UPRIGHT
    assert reply.quarter_turns == 0
    assert reply.ungated_age_months == pytest.approx(BIAS_MONTHS[2] + BRIGHTNESS * MONTHS_PER_BRIGHTNESS[2], abs=1e-3)


@pytest.mark.parametrize(
    ("variations", "reason"),
    [
        (Variations(least_typicality=0.9), common_pb2.ABSTENTION_REASON_NOT_LIKE_TRAINING),
        (Variations(half_width_months=40), common_pb2.ABSTENTION_REASON_INTERVAL_TOO_WIDE),
    ],
)
async def test_abstention_holds_the_number_back(
    tmp_path: Path, variations: Variations, reason: "common_pb2.AbstentionReason.ValueType"
) -> None:
    """No age, interval or activation comes with an abstention; the ungated age only where it was asked for."""
    reply = await read(tmp_path / "gated", request(), variations)
    ungated = await read(tmp_path / "ungated", request(report_ungated=True), variations)
    assert reply.status == regression_pb2.ASSESSMENT_STATUS_ABSTAINED
    assert reply.abstention.reason == reason
    for name in ("age_months", "interval_low_months", "interval_high_months", "activation", "ungated_age_months"):
        assert not reply.HasField(name)
    assert ungated.ungated_age_months == pytest.approx(BIAS_MONTHS[2] + BRIGHTNESS * MONTHS_PER_BRIGHTNESS[2], abs=1e-3)
    assert not ungated.HasField("age_months")


@pytest.mark.parametrize(
    ("bad", "field", "reason"),
    [
        (regression_pb2.EstimateBoneAgeRequest(), "hand", "nothing was sent"),
        (request(sex=9), "sex", "9 stands for no sex"),
    ],
)
async def test_bad_input_is_refused_with_field_and_reason(
    tmp_path: Path, bad: regression_pb2.EstimateBoneAgeRequest, field: str, reason: str
) -> None:
    """INVALID_ARGUMENT names the field as this request has it."""
    with refused(InvalidRequestError, field=field, reason=reason):
        await read(tmp_path, bad)


async def test_unknown_release_is_refused(tmp_path: Path) -> None:
    """Nothing else answers for a release that is not served."""
    with refused(UnknownReleaseError, field="release", reason="'nowhere'"):
        await read(tmp_path, request(release="nowhere"))
