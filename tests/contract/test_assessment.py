"""The assessment service over real sockets, with all stages behind it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from boneage.v1 import assessment_pb2, assessment_pb2_grpc, common_pb2, regression_pb2
from services.core.errors import (
    BoneageError,
    InvalidRadiographError,
    InvalidRequestError,
    UnknownReleaseError,
    UnsupportedFormatError,
)
from tests.models import RELEASE_ID, Variations, hand_picture, write_repository
from tests.radiographs import PATIENT_NAME, STUDY_UID, dicom_file
from tests.serving import as_png, as_raw, channel_to, decode_png, http, refused, running_chain

Stub: TypeAlias = "assessment_pb2_grpc.AssessmentServiceAsyncStub"

OK = regression_pb2.ASSESSMENT_STATUS_OK
ABSTAINED = regression_pb2.ASSESSMENT_STATUS_ABSTAINED
HAND = as_png(hand_picture(640, 500))
DICOM = dicom_file(np.rint(hand_picture() * 4095).astype(np.uint16))  # of a girl
FLAT = as_raw(np.full((300, 200), 0.5, np.float32))


def request(radiograph: common_pb2.Radiograph = HAND, **fields: Any) -> assessment_pb2.AssessRequest:
    """What to assess."""
    return assessment_pb2.AssessRequest(**{"radiograph": radiograph, **fields})


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Stub]:
    """A client of a running chain."""
    async with running_chain(write_repository(tmp_path)) as process, channel_to(process) as channel:
        yield assessment_pb2_grpc.AssessmentServiceStub(channel)


@pytest.fixture
async def wary(tmp_path: Path) -> AsyncIterator[Stub]:
    """A client of a chain whose regressor finds no hand like those it was trained on."""
    repository = write_repository(tmp_path, Variations(least_typicality=0.99))
    async with running_chain(repository) as process, channel_to(process) as channel:
        yield assessment_pb2_grpc.AssessmentServiceStub(channel)


async def test_radiograph_goes_in_and_a_bone_age_comes_out(stub: Stub) -> None:
    """The reply has the age inside its interval, names release and models, and times every stage."""
    reply = await stub.Assess(request())
    assert reply.status == OK
    assert reply.interval_low_months < reply.age_months < reply.interval_high_months
    assert reply.release == RELEASE_ID
    assert [model.name for model in reply.models] == ["hand_segmenter", "radiograph_enhancer", "boneage_regressor"]
    assert (reply.size.height, reply.size.width) == (640, 500)
    spent = reply.stages
    assert min(spent.decode_ms, spent.segmentation_ms, spent.enhancement_ms, spent.regression_ms) > 0
    assert spent.total_ms >= spent.decode_ms + spent.segmentation_ms + spent.enhancement_ms + spent.regression_ms
    assert np.mean(reply.activation.values_months) + reply.activation.bias_months == pytest.approx(reply.age_months)
    assert not reply.HasField("artifacts")
    assert not reply.HasField("ungated_age_months")


async def test_crop_is_in_the_pixels_that_were_sent(stub: Stub) -> None:
    """The square fits the hand of the radiograph, whatever the frame's size."""
    reply = await stub.Assess(request())
    rows, columns = np.nonzero(hand_picture(640, 500) > 0.25)
    assert reply.crop.x <= columns.min() <= columns.max() < reply.crop.x + reply.crop.side
    assert reply.crop.y <= rows.min() <= rows.max() < reply.crop.y + reply.crop.side
    assert reply.crop.side < 1.15 * (rows.max() - rows.min())


@pytest.mark.parametrize(
    ("sent", "read", "source"),
    [
        (common_pb2.SEX_MALE, common_pb2.SEX_MALE, assessment_pb2.SEX_SOURCE_REQUEST),
        (common_pb2.SEX_UNKNOWN, common_pb2.SEX_UNKNOWN, assessment_pb2.SEX_SOURCE_REQUEST),
        (common_pb2.SEX_UNSPECIFIED, common_pb2.SEX_UNKNOWN, assessment_pb2.SEX_SOURCE_NONE),
    ],
)
async def test_sex_comes_from_the_request(stub: Stub, sent: int, read: int, source: int) -> None:
    """The reply says which sex was read with and where it came from."""
    reply = await stub.Assess(request(sex=sent))
    assert (reply.sex, reply.sex_source) == (read, source)


@pytest.mark.parametrize(
    ("sent", "read", "source"),
    [
        (common_pb2.SEX_UNSPECIFIED, common_pb2.SEX_FEMALE, assessment_pb2.SEX_SOURCE_HEADER),
        (common_pb2.SEX_MALE, common_pb2.SEX_MALE, assessment_pb2.SEX_SOURCE_REQUEST),
        (common_pb2.SEX_UNKNOWN, common_pb2.SEX_UNKNOWN, assessment_pb2.SEX_SOURCE_REQUEST),
    ],
)
async def test_sex_of_the_header_counts_where_the_request_says_none(
    stub: Stub, sent: int, read: int, source: int
) -> None:
    """What the request says, were it that the sex is unknown, wins over the header."""
    reply = await stub.Assess(request(common_pb2.Radiograph(dicom=DICOM), sex=sent))
    assert (reply.sex, reply.sex_source) == (read, source)
    assert reply.status == OK


async def test_nothing_of_the_header_leaves_the_server(tmp_path: Path) -> None:
    """Neither logs nor metrics nor the reply hold the patient's name or the study, be the file whole or cut short."""
    async with running_chain(write_repository(tmp_path)) as process, channel_to(process) as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        with capture_logs() as logs:
            reply = await stub.Assess(request(common_pb2.Radiograph(dicom=DICOM)))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Assess(request(common_pb2.Radiograph(dicom=DICOM[:-1000])))
        _, metrics = await http(process, "/metrics")
    told = f"{logs} {metrics} {reply} {caught.value.details()}"
    assert PATIENT_NAME not in told
    assert STUDY_UID not in told
    assert [entry["code"] for entry in logs if entry.get("method") == "Assess"] == ["OK", "INVALID_ARGUMENT"]


async def test_pictures_have_the_size_that_was_sent(stub: Stub) -> None:
    """Mask, map and radiograph lie on the input pixel by pixel; the hand is as it was read."""
    reply = await stub.Assess(request(include_artifacts=True))
    pictures = reply.artifacts
    mask = decode_png(pictures.mask_png)
    assert mask.shape == (640, 500)
    assert set(np.unique(mask)) == {0, 255}
    assert decode_png(pictures.cam_png).shape == (640, 500, 3)
    assert np.array_equal(decode_png(pictures.radiograph_png), decode_png(HAND.encoded))
    assert decode_png(pictures.enhanced_png).shape == (224, 224)
    assert reply.stages.cam_ms > 0


async def test_squashed_radiograph_reads_as_the_hand_that_it_was(stub: Stub) -> None:
    """With its true size, a squashed radiograph gets the age of the unsquashed one, and pictures of its own size."""
    whole = await stub.Assess(request(as_raw(hand_picture(400, 250))))
    squashed = as_raw(hand_picture(400, 400))
    squashed.true_size.height, squashed.true_size.width = 400, 250
    reply = await stub.Assess(request(squashed, include_artifacts=True))
    assert reply.age_months == pytest.approx(whole.age_months, abs=1)
    assert decode_png(reply.artifacts.mask_png).shape == (400, 400)
    assert decode_png(reply.artifacts.cam_png).shape == (400, 400, 3)


async def test_map_of_a_squashed_radiograph_is_squashed_with_it(stub: Stub) -> None:
    """The map lies on the squashed hand as it lies on the unsquashed one."""
    true = as_raw(hand_picture(400, 200))
    squashed = as_raw(hand_picture(400, 400))
    squashed.true_size.height, squashed.true_size.width = 400, 200
    maps = [
        decode_png((await stub.Assess(request(image, include_artifacts=True))).artifacts.cam_png).astype(float)
        for image in (true, squashed)
    ]
    narrowed = maps[1].reshape(400, 200, 2, 3).mean(axis=2)
    assert np.abs(narrowed - maps[0]).mean() < 6


@pytest.mark.parametrize(
    "image",
    [
        FLAT,
        *(as_raw(np.full(shape, level, np.float32)) for shape in ((1, 1), (1, 9000), (700, 500)) for level in (0, 1)),
    ],
    ids=["grey", "black dot", "white dot", "black line", "white line", "all black", "all white"],
)
async def test_image_without_a_hand_ends_the_chain_early(stub: Stub, image: common_pb2.Radiograph) -> None:
    """Only the segmentation has answered, and there is no number."""
    reply = await stub.Assess(request(image, include_artifacts=True))
    assert reply.status == ABSTAINED
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_LOW_CONTRAST
    assert [model.name for model in reply.models] == ["hand_segmenter"]
    for name in ("age_months", "interval_low_months", "interval_high_months", "activation", "ungated_age_months"):
        assert not reply.HasField(name)


async def test_abstention_has_pictures_but_no_map(wary: Stub) -> None:
    """What was found is shown; a map would explain a number that is not given."""
    reply = await wary.Assess(request(include_artifacts=True))
    assert reply.status == ABSTAINED
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_NOT_LIKE_TRAINING
    assert reply.artifacts.mask_png
    assert reply.artifacts.enhanced_png
    assert not reply.artifacts.cam_png


async def test_ungated_number_is_reported_only_where_it_was_asked_for(wary: Stub) -> None:
    """It never stands in the place of the age."""
    gated, ungated = await wary.Assess(request()), await wary.Assess(request(report_ungated=True))
    assert not gated.HasField("ungated_age_months")
    assert ungated.status == ABSTAINED
    assert ungated.ungated_age_months > 0
    assert not ungated.HasField("age_months")


async def test_ungated_number_goes_past_the_segmentations_gate(stub: Stub) -> None:
    """With the gates off the chain goes on as far as it can, and the first reason stays."""
    faint = as_raw(np.where(hand_picture() > 0.25, 0.6, 0.5).astype(np.float32))
    reply = await stub.Assess(request(faint, report_ungated=True))
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_LOW_CONTRAST
    assert reply.status == ABSTAINED
    assert reply.HasField("ungated_age_months")
    assert len(reply.models) == 3


BAD = [
    (request(common_pb2.Radiograph()), InvalidRequestError, "radiograph", "nothing was sent"),
    (request(common_pb2.Radiograph(dicom=b"")), InvalidRadiographError, "radiograph.dicom", "empty"),
    (request(common_pb2.Radiograph(encoded=b"GIF89a")), UnsupportedFormatError, "radiograph.encoded", "PNG"),
    (request(sex=7), InvalidRequestError, "sex", "7 stands for no sex"),
    (request(release="nowhere"), UnknownReleaseError, "release", "'nowhere'"),
]


@pytest.mark.parametrize(("bad", "kind", "field", "reason"), BAD)
async def test_bad_input_is_refused_with_field_and_reason(
    stub: Stub, bad: assessment_pb2.AssessRequest, kind: type[BoneageError], field: str, reason: str
) -> None:
    """The status names the fault wherever in the chain it was found."""
    with refused(kind, field=field, reason=reason):
        await stub.Assess(bad)


async def test_stream_answers_every_item_past_bad_ones(stub: Stub) -> None:
    """Each answer carries its item's id; a bad item fails alone, with the code of a unary call."""
    items = [assessment_pb2.AssessStreamRequest(item_id=f"good {i}", request=request()) for i in range(6)]
    items[2:2] = [
        assessment_pb2.AssessStreamRequest(item_id=f"bad {i}", request=bad) for i, (bad, *_) in enumerate(BAD)
    ]
    answers = {answer.item_id: answer async for answer in stub.AssessStream(iter(items))}
    assert set(answers) == {item.item_id for item in items}
    assert all(answers[f"good {i}"].response.status == OK for i in range(6))
    failures = [answers[f"bad {i}"].failure for i in range(len(BAD))]
    assert [failure.field for failure in failures] == [field for _, _, field, _ in BAD]
    assert [failure.code for failure in failures] == ["INVALID_ARGUMENT"] * 4 + ["NOT_FOUND"]


async def test_metrics_count_outcomes_and_time_stages(tmp_path: Path) -> None:
    """Answers are counted by outcome and release, stages are timed by name."""
    async with running_chain(write_repository(tmp_path)) as process, channel_to(process) as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        await stub.Assess(request())
        await stub.Assess(request(FLAT))
        _, metrics = await http(process, "/metrics")
    assert f'boneage_assessments_total{{outcome="ok",release="{RELEASE_ID}"}} 1.0' in metrics
    assert f'boneage_assessments_total{{outcome="low_contrast",release="{RELEASE_ID}"}} 1.0' in metrics
    assert 'boneage_stage_seconds_count{stage="decode"} 2.0' in metrics
    assert 'boneage_stage_seconds_count{stage="regression"} 1.0' in metrics
