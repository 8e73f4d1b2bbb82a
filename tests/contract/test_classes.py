"""A release that tells classes apart, over real sockets, with a model whose logits can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from boneage.v1 import (
    assessment_pb2,
    assessment_pb2_grpc,
    cam_pb2,
    cam_pb2_grpc,
    common_pb2,
    regression_pb2,
    regression_pb2_grpc,
)
from services.core.domain.preprocess import HAND_PX
from tests.models import (
    BIAS_LOGITS,
    CLASSES,
    LOGITS_PER_BRIGHTNESS,
    RELEASE_ID,
    SET_PROBABILITY,
    TEMPERATURE,
    Variations,
    hand_picture,
    write_repository,
)
from tests.serving import as_png, as_raw, channel_to, running, running_chain

OK = regression_pb2.ASSESSMENT_STATUS_OK
TWO_CLASSES = Variations(classes=True)


def hand(brightness: float) -> common_pb2.Radiograph:
    """An even hand."""
    return as_raw(np.full((HAND_PX, HAND_PX), brightness, np.float32))


@pytest.mark.parametrize("brightness", [0.05, 0.13, 0.3])
async def test_probabilities_are_those_of_the_scaled_logits(tmp_path: Path, brightness: float) -> None:
    """Softmax of the logits over the temperature; the set holds what is likely enough, and always the likeliest."""
    request = regression_pb2.EstimateBoneAgeRequest(hand=hand(brightness))
    async with (
        running("regression", model_repository=write_repository(tmp_path, TWO_CLASSES)) as process,
        channel_to(process) as channel,
    ):
        reply = await regression_pb2_grpc.RegressionServiceStub(channel).EstimateBoneAge(request)
    logits = np.array(BIAS_LOGITS) + brightness * np.array(LOGITS_PER_BRIGHTNESS)
    expected = np.exp(logits / TEMPERATURE) / np.exp(logits / TEMPERATURE).sum()
    assert reply.status == OK
    assert [c.name for c in reply.class_probabilities] == list(CLASSES)
    assert [c.probability for c in reply.class_probabilities] == pytest.approx(list(expected), abs=1e-4)
    assert [c.in_set for c in reply.class_probabilities] == [
        p >= SET_PROBABILITY or p == max(expected) for p in expected
    ]
    assert not reply.HasField("age_months")
    assert not reply.HasField("interval_low_months")
    assert (reply.model.name, reply.release) == ("hand_classifier", RELEASE_ID)
    explained = np.mean(reply.activation.values_months) + reply.activation.bias_months
    assert explained == pytest.approx(logits.max(), abs=1e-4)


async def test_the_whole_chain_answers_with_classes(tmp_path: Path) -> None:
    """The assessment passes classes, their grid and the pictures on; an age that was asked for ungated is not there."""
    repository = write_repository(tmp_path, TWO_CLASSES)
    async with running_chain(repository) as process, channel_to(process) as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        reply = await stub.Assess(
            assessment_pb2.AssessRequest(
                radiograph=as_png(hand_picture(640, 500)), include_artifacts=True, report_ungated=True
            )
        )
    assert reply.status == OK
    assert [c.name for c in reply.class_probabilities] == list(CLASSES)
    assert sum(c.probability for c in reply.class_probabilities) == pytest.approx(1)
    assert reply.models[-1].name == "hand_classifier"
    assert reply.activation.values_months
    assert reply.artifacts.cam_png
    assert not reply.HasField("age_months")
    assert not reply.HasField("ungated_age_months")


async def test_an_abstention_holds_the_classes_back(tmp_path: Path) -> None:
    """What is not like the training images gets no class either."""
    repository = write_repository(tmp_path, Variations(classes=True, least_typicality=0.99))
    async with running_chain(repository) as process, channel_to(process) as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        reply = await stub.Assess(assessment_pb2.AssessRequest(radiograph=as_png(hand_picture(640, 500))))
    assert reply.status == regression_pb2.ASSESSMENT_STATUS_ABSTAINED
    assert reply.abstention.reason == common_pb2.ABSTENTION_REASON_NOT_LIKE_TRAINING
    assert not reply.class_probabilities


async def test_a_map_that_is_asked_for_alone_is_of_the_likeliest_class(tmp_path: Path) -> None:
    """Without a grid the CAM service runs the classifier itself."""
    request = cam_pb2.ExplainRequest(
        radiograph=hand(0.9), hand=hand(0.9), crop=common_pb2.Square(x=0, y=0, side=HAND_PX)
    )
    async with (
        running("cam", model_repository=write_repository(tmp_path, TWO_CLASSES)) as process,
        channel_to(process) as channel,
    ):
        reply = await cam_pb2_grpc.CamServiceStub(channel).Explain(request)
    assert reply.model.name == "hand_classifier"
    assert np.mean(reply.activation.values_months) == pytest.approx(0.9 * LOGITS_PER_BRIGHTNESS[1], abs=1e-3)
