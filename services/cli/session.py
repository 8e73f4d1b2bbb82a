"""One run against a server: the services are started where none is named, and files are read through the client."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from boneage.v1 import assessment_pb2
from services.cli.batch import in_order
from services.cli.files import InputFile
from services.cli.reading import Ask, Reading, request_for
from services.cli.server import Server
from services.cli.supervisor import Supervisor
from services.client import AssessmentClient
from services.core.errors import BoneageError, ImageTooLargeError, OverloadedError

Readings = AsyncGenerator[Reading, None]
Assess = Callable[[assessment_pb2.AssessRequest], Awaitable[assessment_pb2.AssessResponse]]

IN_FLIGHT: Final = 3
# A batch waits rather than fails where the machine is busy.
DEADLINE_S: Final = 60.0
MAXIMUM_FILE_BYTES: Final = 63 * 2**20
OVERLOAD_ATTEMPTS: Final = 6
FIRST_WAIT_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Job:
    """One file to read; `true_size` is its height and width at acquisition, where the image was squashed since."""

    file: InputFile
    ask: Ask
    true_size: tuple[int, int] | None = None


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Assess]:
    """A function that assesses, while the context lasts; services of our own are started where there is no address.

    Raises ServiceStartError where they do not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        address = server.address or await stack.enter_async_context(Supervisor().running())
        tls = server.tls if server.address else None
        client = await stack.enter_async_context(AssessmentClient(address, tls=tls, deadline_s=DEADLINE_S))
        yield client.assess


@contextlib.asynccontextmanager
async def reading_all(jobs: Sequence[Job], server: Server, *, in_flight: int = IN_FLIGHT) -> AsyncIterator[Readings]:
    """The readings of `jobs` in their order, several in flight; a bad file does not end them."""
    async with connected(server) as assess:

        async def work(job: Job) -> Reading:
            return await read_one(job, assess)

        async with contextlib.aclosing(in_order(jobs, work, in_flight=in_flight)) as readings:
            yield readings


async def read_one(job: Job, assess: Assess) -> Reading:
    """Read one file; what goes wrong with it is in the reading."""
    try:
        content = await asyncio.to_thread(_content, job.file)
        response = await _patiently(assess, request_for(job.file, content, job.ask, job.true_size))
    except OSError as error:
        return Reading(job.file, job.ask, None, error.strerror or type(error).__name__)
    except BoneageError as error:
        return Reading(job.file, job.ask, None, str(error))
    return Reading(job.file, job.ask, response)


def _content(file: InputFile) -> bytes:
    size = file.path.stat().st_size
    if size > MAXIMUM_FILE_BYTES:
        raise ImageTooLargeError(f"the file has {size} bytes, more than {MAXIMUM_FILE_BYTES}")
    return file.path.read_bytes()


async def _patiently(assess: Assess, request: assessment_pb2.AssessRequest) -> assessment_pb2.AssessResponse:
    """A batch can wait where one caller could not: a server that is full is asked again, later each time."""
    for attempt in range(OVERLOAD_ATTEMPTS - 1):
        try:
            return await assess(request)
        except OverloadedError:
            await asyncio.sleep(FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311  # jitter, no secret
    return await assess(request)
