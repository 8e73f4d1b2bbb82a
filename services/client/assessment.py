"""The client of the assessment service."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, Self

from boneage.v1 import assessment_pb2, assessment_pb2_grpc
from services.client.channel import ATTEMPTS, Tls, calling, connect
from services.core.errors import ModelUnavailableError

SERVICE: Final = assessment_pb2.DESCRIPTOR.services_by_name["AssessmentService"].full_name
DEADLINE_S: Final = 15.0
RESUME_BACKOFF_S: Final = 0.2


class AssessmentClient:
    """Calls the assessment service at HOST:PORT; an async context manager.

    Errors are those of `services.core.errors`, as the server raised them: InvalidRadiographError for what cannot be
    read, OverloadedError for a call that was refused at once, ModelUnavailableError where nobody answers.
    """

    def __init__(self, address: str, *, tls: Tls | None = None, deadline_s: float = DEADLINE_S) -> None:
        self._channel = connect(address, SERVICE, tls=tls)
        self._stub = assessment_pb2_grpc.AssessmentServiceStub(self._channel)
        self._deadline_s = deadline_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close(None)

    async def assess(self, request: assessment_pb2.AssessRequest) -> assessment_pb2.AssessResponse:
        """Assess one radiograph within the deadline."""
        with calling():
            return await self._stub.Assess(request, timeout=self._deadline_s)

    async def assess_stream(
        self, items: Iterable[assessment_pb2.AssessStreamRequest]
    ) -> AsyncIterator[assessment_pb2.AssessStreamResponse]:
        """Assess many on one stream; answers come as they are ready, each with its item's id, which must be unique.

        Servers end a connection after a while. The stream is then opened again with what is unanswered, and given up
        with ModelUnavailableError after `ATTEMPTS` times without a single answer.
        """
        source, unanswered = iter(items), dict[str, assessment_pb2.AssessStreamRequest]()
        failures = 0
        while True:
            try:
                with calling():
                    async for answer in self._stub.AssessStream(_requests(source, unanswered)):
                        failures = 0
                        unanswered.pop(answer.item_id, None)
                        yield answer
                return
            except ModelUnavailableError:
                failures += 1
                if failures >= ATTEMPTS:
                    raise
                await asyncio.sleep(RESUME_BACKOFF_S * 2**failures * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter


def _requests(
    source: Iterator[assessment_pb2.AssessStreamRequest], unanswered: dict[str, assessment_pb2.AssessStreamRequest]
) -> Iterator[assessment_pb2.AssessStreamRequest]:
    """What was sent before and not answered, then the rest of the source."""
    yield from tuple(unanswered.values())
    for item in source:
        unanswered[item.item_id] = item
        yield item
