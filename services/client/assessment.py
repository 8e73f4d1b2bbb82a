"""The client of the assessment service."""

from typing import Final, Self

from boneage.v1 import assessment_pb2, assessment_pb2_grpc
from services.client.channel import calling, connect
from services.client.tls import Tls

SERVICE: Final = assessment_pb2.DESCRIPTOR.services_by_name["AssessmentService"].full_name
DEADLINE_S: Final = 15.0


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
