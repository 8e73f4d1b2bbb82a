"""The model services behind their gRPC interfaces."""

from collections.abc import Mapping
from typing import Final

import grpc
import numpy as np
from numpy.typing import NDArray

from boneage.v1 import (
    cam_pb2,
    cam_pb2_grpc,
    common_pb2,
    enhancement_pb2,
    enhancement_pb2_grpc,
    regression_pb2,
    regression_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from services.assessment.ports import Answer, Found, Prepared, Read
from services.assessment.settings import Settings
from services.client import calling, connect, stage_tls
from services.core.adapters import wire
from services.core.domain.contracts import Sex
from services.core.domain.preprocess import Image, Mask, Square
from services.core.domain.reading import Activation, Age
from services.core.runtime.admission import BEGUN
from services.core.runtime.deadlines import Deadline

# The client tries again as well: two attempts here make six in all, within one deadline.
ATTEMPTS: Final = 2
BEGUN_HERE: Final = ((BEGUN, "1"),)
"""What was done for a radiograph is not to be lost because others, who lose nothing, came at the same time."""
SERVICES: Final[Mapping[str, str]] = {
    "segmentation": segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name,
    "enhancement": enhancement_pb2.DESCRIPTOR.services_by_name["EnhancementService"].full_name,
    "regression": regression_pb2.DESCRIPTOR.services_by_name["RegressionService"].full_name,
    "cam": cam_pb2.DESCRIPTOR.services_by_name["CamService"].full_name,
}


def open_channels(settings: Settings) -> dict[str, grpc.aio.Channel]:
    """A channel to each stage, by its name."""
    tls = stage_tls(settings)
    return {
        name: connect(getattr(settings, f"{name}_address"), service, tls=tls, attempts=ATTEMPTS)
        for name, service in SERVICES.items()
    }


class GrpcStages:
    """`ports.Stages` over the channels of `open_channels`."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._segmentation = segmentation_pb2_grpc.SegmentationServiceStub(channels["segmentation"])
        self._enhancement = enhancement_pb2_grpc.EnhancementServiceStub(channels["enhancement"])
        self._regression = regression_pb2_grpc.RegressionServiceStub(channels["regression"])
        self._cam = cam_pb2_grpc.CamServiceStub(channels["cam"])

    async def segment(self, frame: Image, *, release: str, deadline: Deadline) -> Found:
        """Find the hand in a frame (h, w)."""
        request = segmentation_pb2.SegmentRequest(
            radiograph=common_pb2.Radiograph(raw=wire.raw_float32(frame)), release=release
        )
        with calling():
            reply = await self._segmentation.Segment(request, timeout=deadline.left_s(), metadata=BEGUN_HERE)
        return Found(
            mask=wire.mask_from_wire(reply.mask, shape=(frame.shape[0], frame.shape[1])),
            crop=wire.square_from_wire(reply.crop) if reply.HasField("crop") else None,
            foreground_fraction=reply.foreground_fraction,
            abstention=wire.abstention_from_wire(reply.abstention) if reply.HasField("abstention") else None,
            model=wire.model_from_wire(reply.model),
            release=reply.release,
        )

    async def enhance(self, frame: Image, mask: Mask, *, release: str, deadline: Deadline) -> Prepared:
        """Prepare the hand inside the mask (h, w)."""
        request = enhancement_pb2.EnhanceRequest(
            radiograph=common_pb2.Radiograph(raw=wire.raw_float32(frame)), mask=wire.mask_to_wire(mask), release=release
        )
        with calling():
            reply = await self._enhancement.Enhance(request, timeout=deadline.left_s(), metadata=BEGUN_HERE)
        return Prepared(
            hand=wire.float32_from_wire(reply.hand),
            crop=wire.square_from_wire(reply.crop),
            enhanced=reply.enhanced,
            negative=reply.negative,
            model=wire.model_from_wire(reply.model),
        )

    async def read(self, hand: Image, *, sex: Sex, ungated: bool, release: str, deadline: Deadline) -> Read:
        """Read a prepared hand (S, S)."""
        request = regression_pb2.EstimateBoneAgeRequest(
            hand=common_pb2.Radiograph(raw=wire.raw_float32(hand)),
            sex=wire.SEX_TO_WIRE[sex],
            release=release,
            report_ungated=ungated,
        )
        with calling():
            reply = await self._regression.EstimateBoneAge(request, timeout=deadline.left_s(), metadata=BEGUN_HERE)
        return Read(
            answer=_answer(reply) if reply.status == regression_pb2.ASSESSMENT_STATUS_OK else None,
            abstention=wire.abstention_from_wire(reply.abstention) if reply.HasField("abstention") else None,
            ungated_age_months=reply.ungated_age_months if reply.HasField("ungated_age_months") else None,
            quarter_turns=reply.quarter_turns,
            model=wire.model_from_wire(reply.model),
        )

    async def explain(
        self, pixels: NDArray[np.uint8], crop: Square, activation: Activation, *, release: str, deadline: Deadline
    ) -> bytes:
        """The activation over a radiograph (H, W) as a colour PNG."""
        request = cam_pb2.ExplainRequest(
            radiograph=common_pb2.Radiograph(raw=wire.raw_uint8(pixels)),
            crop=wire.square_to_wire(crop),
            activation=wire.activation_to_wire(activation),
            release=release,
        )
        with calling():
            reply = await self._cam.Explain(request, timeout=deadline.left_s(), metadata=BEGUN_HERE)
        return reply.overlay_png


def _answer(reply: regression_pb2.EstimateBoneAgeResponse) -> Answer:
    activation = wire.activation_from_wire(reply.activation)
    if not reply.HasField("age_months"):
        return Answer(wire.classes_from_wire(reply.class_probabilities), activation)
    return Answer(Age(reply.age_months, reply.interval_low_months, reply.interval_high_months), activation)
