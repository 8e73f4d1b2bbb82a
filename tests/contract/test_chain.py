"""The whole chain as five processes, as a hospital runs it."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from boneage.v1 import assessment_pb2, regression_pb2
from services.client import AssessmentClient
from tests.models import RELEASE_ID, hand_picture, write_repository
from tests.ports import LOOPBACK
from tests.serving import MODEL_SERVICES, as_png, child_environment


@asynccontextmanager
async def process(service: str, folder: Path, **values: object) -> AsyncIterator[str]:
    """A service in its own process, ready, at the address that it gives; it ends with status 0."""
    ready = folder / f"{service}.json"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        env=child_environment(READY_FILE=ready, **values),
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stderr is not None
    try:
        async for line in child.stderr:
            if json.loads(line)["event"] == "ready":
                break
        # Its log must be read on, or the pipe fills and the process waits.
        draining = asyncio.ensure_future(child.stderr.read())
        yield f"{LOOPBACK}:{json.loads(ready.read_text())['grpc_port']}"
    finally:
        child.send_signal(signal.SIGTERM)
        await draining
        assert await child.wait() == 0


async def test_radiograph_passes_through_five_processes(tmp_path: Path) -> None:
    """Eight clients at once are all answered, with one release each, and every process ends cleanly."""
    repository = write_repository(tmp_path / "models")
    request = assessment_pb2.AssessRequest(radiograph=as_png(hand_picture(640, 500)), include_artifacts=True)
    async with AsyncExitStack() as stack:
        models = {
            name: await stack.enter_async_context(process(name, tmp_path, MODEL_REPOSITORY=repository, ONNX_THREADS=1))
            for name in MODEL_SERVICES
        }
        addresses = {f"{name.upper()}_ADDRESS": where for name, where in models.items()}
        assessment = await stack.enter_async_context(process("assessment", tmp_path, **addresses))
        client = await stack.enter_async_context(AssessmentClient(assessment))
        replies = await asyncio.gather(*(client.assess(request) for _ in range(8)))
    assert {reply.status for reply in replies} == {regression_pb2.ASSESSMENT_STATUS_OK}
    assert {reply.release for reply in replies} == {RELEASE_ID}
    assert len({reply.age_months for reply in replies}) == 1
    assert all(reply.artifacts.cam_png for reply in replies)
