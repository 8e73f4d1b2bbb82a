"""Calls to a group of services by several clients at once, and what they came to."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from boneage.v1 import (
    assessment_pb2,
    assessment_pb2_grpc,
    common_pb2,
    enhancement_pb2,
    enhancement_pb2_grpc,
    regression_pb2,
    regression_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from services.client import calling
from services.core.errors import BoneageError, OverloadedError
from tests.group import Group

DEADLINE_S: Final = 15.0
CLIENTS: Final = 8
WHOLE_EVERY: Final = 10
"""One call in so many is a whole assessment, the others read a prepared hand."""
PACKAGE: Final = "boneage.v1"


@dataclass(frozen=True, slots=True)
class Case:
    """One radiograph, and the hand that was prepared from it."""

    radiograph: common_pb2.Radiograph
    hand: common_pb2.Radiograph


@dataclass(slots=True)
class Answer:
    """One call that was answered: when it began and how long it took, and by what."""

    began_s: float
    seconds: float
    release: str
    versions: dict[str, int]


@dataclass(slots=True)
class Tally:
    """What a load came to."""

    answers: list[Answer] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest_failure_s: float = 0.0

    @property
    def releases(self) -> Counter[str]:
        """Answers by release."""
        return Counter(answer.release for answer in self.answers)

    def ends_with(self, release: str) -> bool:
        """Whether the last answer is a release's."""
        return bool(self.answers) and self.answers[-1].release == release

    def mixed(self, group: Group) -> list[str]:
        """Answers of which a model's version is not the one that their release pins."""
        pinned = {release.id: release.models for release in group.publisher.made}
        return [
            f"{answer.release}: {answer.versions}"
            for answer in self.answers
            if any(pinned[answer.release][name] != version for name, version in answer.versions.items())
        ]


class Load:
    """Calls to a group by several clients at once."""

    def __init__(self, group: Group, cases: Sequence[Case]) -> None:
        self._cases = cases
        self.tally = Tally()
        self._channels = [group.channel(name, f"{PACKAGE}.{service}") for name, service in
                          (("assessment", "AssessmentService"), ("regression", "RegressionService"))]  # fmt: skip
        self._assess = assessment_pb2_grpc.AssessmentServiceStub(self._channels[0])
        self._regress = regression_pb2_grpc.RegressionServiceStub(self._channels[1])
        self.begun = 0

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close(None)

    async def run(self, calls: int, *, clients: int = CLIENTS, until_done: asyncio.Event | None = None) -> Tally:
        """Make `calls` calls, or more until `until_done` is set."""

        async def client() -> None:
            while self.begun < calls or (until_done is not None and not until_done.is_set()):
                self.begun += 1
                await self.call(self.begun)

        await asyncio.gather(*(client() for _ in range(clients)))
        return self.tally

    async def call(self, number: int, *, deadline_s: float = DEADLINE_S) -> None:
        """One call, tallied."""
        case, began_s = self._cases[number % len(self._cases)], time.monotonic()
        try:
            with calling():
                release, models = await self._ask(case, whole=number % WHOLE_EVERY == 0, deadline_s=deadline_s)
        except OverloadedError:
            self.tally.refused.append(time.monotonic() - began_s)
        except BoneageError as error:
            self.tally.failures.append(f"{type(error).__name__}: {error.reason}")
            self.tally.slowest_failure_s = max(self.tally.slowest_failure_s, time.monotonic() - began_s)
        else:
            versions = {model.name: model.version for model in models}
            self.tally.answers.append(Answer(began_s, time.monotonic() - began_s, release, versions))

    async def _ask(self, case: Case, *, whole: bool, deadline_s: float) -> tuple[str, Sequence[Any]]:
        if whole:
            request = assessment_pb2.AssessRequest(radiograph=case.radiograph, report_ungated=True)
            answer = await self._assess.Assess(request, timeout=deadline_s)
            return answer.release, answer.models
        asked = regression_pb2.EstimateBoneAgeRequest(hand=case.hand, sex=common_pb2.SEX_FEMALE)
        read = await self._regress.EstimateBoneAge(asked, timeout=deadline_s)
        return read.release, [read.model]


@asynccontextmanager
async def loading(group: Group, cases: Sequence[Case]) -> AsyncIterator[Load]:
    """A load whose channels are closed at the end."""
    load = Load(group, cases)
    try:
        yield load
    finally:
        await load.close()


async def prepared(group: Group, radiographs: Sequence[common_pb2.Radiograph]) -> list[Case]:
    """Each radiograph with the hand that the group's own services prepare from it."""
    cases = []
    async with (
        group.channel("segmentation", f"{PACKAGE}.SegmentationService") as one,
        group.channel("enhancement", f"{PACKAGE}.EnhancementService") as two,
    ):
        segmenting = segmentation_pb2_grpc.SegmentationServiceStub(one)
        enhancing = enhancement_pb2_grpc.EnhancementServiceStub(two)
        for radiograph in radiographs:
            asked = segmentation_pb2.SegmentRequest(radiograph=radiograph)
            found = await segmenting.Segment(asked, timeout=60)
            request = enhancement_pb2.EnhanceRequest(radiograph=radiograph, mask=found.mask)
            made = await enhancing.Enhance(request, timeout=60)
            cases.append(Case(radiograph, common_pb2.Radiograph(raw=made.hand)))
    return cases
