"""A node that is lost says nothing: its connections stand, and nothing comes of them. No call may fail of it."""

import asyncio
from contextlib import AsyncExitStack

from boneage.v1 import assessment_pb2
from services.client import AssessmentClient
from services.client.assessment import DEADLINE_S
from tests.models import RELEASE_ID, hand_picture, write_repository
from tests.relay import Relay, relay_to
from tests.serving import MODEL_SERVICES, address, as_png, running

CALLS = 8


async def two(stack: AsyncExitStack, service: str, **values) -> tuple[str, Relay]:
    """Two instances behind one name, and the relay before the first."""
    first, second = [await stack.enter_async_context(running(service, **values)) for _ in range(2)]
    relay = await stack.enter_async_context(relay_to(first.grpc_port))
    return f"ipv4:{relay.address},{address(second)}", relay


async def test_calls_are_answered_elsewhere_within_their_deadline(tmp_path):
    """One assessment and one of each stage are on that node, so that a call meets the loss twice, one in the other."""
    repository = write_repository(tmp_path)
    request = assessment_pb2.AssessRequest(radiograph=as_png(hand_picture()))
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        told, node = {}, []
        for name in MODEL_SERVICES:
            told[f"{name}_address"], relay = await two(stack, name, model_repository=repository)
            node.append(relay)
        target, relay = await two(stack, "assessment", **told)
        node.append(relay)
        client = await stack.enter_async_context(AssessmentClient(target))
        for _ in range(4):
            await client.assess(request)
        assert all(relay.connections for relay in node)
        for relay in node:
            relay.hold()
        began_s = loop.time()
        replies = await asyncio.gather(*(client.assess(request) for _ in range(CALLS)))
        assert [reply.release for reply in replies] == [RELEASE_ID] * CALLS
        assert loop.time() - began_s < DEADLINE_S - 2
        began_s = loop.time()
        await client.assess(request)
        assert loop.time() - began_s < 2.0, "what is lost is known by now"
        for relay in node:
            relay.release()
