"""A client that never rests, run inside a pod: assesses radiographs and prints one line of JSON for each call.

`steady.py ADDRESS CA FOLDER` makes one call after another through the client library, and beside it, as `raw`, the same
without any second attempt. With `--busy` at the end it makes as many as it can, through the library, of the radiograph
that is answered soonest, and asks for pictures, so that services far down the chain have as much work as they can get.
"""

import asyncio
import itertools
import json
import signal
import sys
import time
from pathlib import Path
from typing import Final

from boneage.v1 import assessment_pb2, assessment_pb2_grpc, common_pb2
from services.client import Tls, calling, connect
from services.client.assessment import DEADLINE_S, SERVICE
from services.core.errors import BoneageError

PAUSE_S: Final = 3.0
KINDS: Final = (("policy", 3), ("raw", 1))
BUSY: Final = (("busy", 3),) * 3


Requests = list[assessment_pb2.AssessRequest]


async def call_on(kind: str, attempts: int, address: str, tls: Tls, requests: Requests, pause_s: float) -> None:
    """Calls without end, each told; without a pause, at last those alone that were answered soonest."""
    channel = connect(address, SERVICE, tls=tls, attempts=attempts)
    stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
    answered: dict[int, float] = {}
    for number in itertools.count():
        turn = number % len(requests)
        if not pause_s and number >= len(requests) and answered:
            turn = min(answered, key=lambda one: answered[one])
        request, began = requests[turn], time.time()
        request.study_uid = f"{kind}.{number}"
        told: dict[str, object] = {"kind": kind, "at": round(began, 3)}
        try:
            with calling():
                answer = await stub.Assess(request, timeout=DEADLINE_S)
            told |= {"release": answer.release}
            answered.setdefault(turn, time.time() - began)
        except BoneageError as error:
            told |= {"failed": f"{type(error).__name__}: {error.reason}"}
        told["seconds"] = round(time.time() - began, 3)
        print(json.dumps(told), flush=True)
        await asyncio.sleep(pause_s)


def request_of(file: Path, *, pictures: bool) -> assessment_pb2.AssessRequest:
    """A request for one radiograph, which is read whatever the gates say."""
    return assessment_pb2.AssessRequest(
        radiograph=common_pb2.Radiograph(encoded=file.read_bytes()),
        sex=common_pb2.SEX_FEMALE, report_ungated=True, include_artifacts=pictures,
    )  # fmt: skip


async def main(address: str, ca: str, requests: Requests, *, busy: bool) -> None:
    """All kinds of calls until the process is told to stop."""
    loop = asyncio.get_running_loop()
    tls = Tls(Path(ca))
    kinds, pause_s = (BUSY, 0.0) if busy else (KINDS, PAUSE_S)
    calls = [call_on(kind, attempts, address, tls, requests, pause_s) for kind, attempts in kinds]
    tasks = [asyncio.create_task(call) for call in calls]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: [task.cancel() for task in tasks])
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    place, authority, folder, *options = sys.argv[1:]
    in_a_hurry = "--busy" in options
    found = [request_of(file, pictures=in_a_hurry) for file in sorted(Path(folder).glob("*.png"))]
    asyncio.run(main(place, authority, found, busy=in_a_hurry))
