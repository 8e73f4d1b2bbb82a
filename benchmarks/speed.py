"""Speed and memory of the real services against the same work called directly, as ratios within one run.

    python -m benchmarks.speed [--radiograph FILE] [--rounds N] [--out FILE.json]

Services and direct calls take turns, so that both meet the same machine in the same state. The radiograph is a sample
that comes with the project, or any file that is read.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Final

import cv2
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.direct import DirectChain
from benchmarks.speed_cases import Case, cases_of
from boneage.v1 import assessment_pb2, regression_pb2
from services.cli.demo import SAMPLES
from services.cli.supervisor import Supervisor, thread_budget
from services.client import AssessmentClient
from services.core.errors import OverloadedError
from services.core.runtime.cores import available_cores
from services.core.runtime.settings import ModelSettings, read_settings

CLIENTS: Final = 8
WARM_UP: Final = 3
MEMORY_INTERVAL_S: Final = 0.25
DEADLINE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Latency:
    """One client, the whole chain; the ratio is that of the medians."""

    case: str
    calls: int
    service_p50_ms: float
    service_p95_ms: float
    direct_p50_ms: float
    direct_p95_ms: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Many clients at once, against direct calls from as many threads as there are cores."""

    case: str
    clients: int
    answered: int
    refused: int
    service_per_s: float
    direct_per_s: float
    ratio: float
    peak_memory_gib: float


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run, and what they were measured on."""

    release: str
    cores: int
    onnx_threads: dict[str, int]
    idle_memory_gib: float
    latency: list[Latency]
    throughput: list[Throughput]


async def latency(client: AssessmentClient, direct: DirectChain, case: Case, rounds: int) -> Latency:
    """Time one call of each kind in turn."""
    service_s, direct_s = [], []
    for turn in range(WARM_UP + rounds):
        start = perf_counter()
        await assess(client, case)
        middle = perf_counter()
        direct.read(case.decode)
        if turn >= WARM_UP:
            service_s.append(middle - start)
            direct_s.append(perf_counter() - middle)
    service, alone = (np.percentile(times, (50, 95)) * 1e3 for times in (service_s, direct_s))
    return Latency(
        case.name,
        rounds,
        service_p50_ms=float(service[0]),
        service_p95_ms=float(service[1]),
        direct_p50_ms=float(alone[0]),
        direct_p95_ms=float(alone[1]),
        ratio=float(service[0] / alone[0]),
    )


async def throughput(
    client: AssessmentClient, direct: DirectChain, case: Case, rounds: int, group: list[psutil.Process]
) -> Throughput:
    """Rates of both kinds, each measured before and after the other in two halves."""
    calls, refused, service_s, direct_s = CLIENTS * max(1, rounds // CLIENTS), 0, 0.0, 0.0
    async with peak_memory(group) as peak:
        for _ in range(2):
            start = perf_counter()
            refused += await burst(client, case, calls)
            middle = perf_counter()
            await asyncio.to_thread(direct_burst, direct, case, calls)
            service_s, direct_s = service_s + middle - start, direct_s + perf_counter() - middle
    answered = 2 * calls - refused
    return Throughput(
        case.name,
        CLIENTS,
        answered,
        refused,
        service_per_s=answered / service_s,
        direct_per_s=2 * calls / direct_s,
        ratio=answered / service_s * direct_s / (2 * calls),
        peak_memory_gib=max(peak),
    )


async def burst(client: AssessmentClient, case: Case, calls: int) -> int:
    """`CLIENTS` clients, each with its next call once the last is answered; gives how many calls were refused."""

    async def one_client() -> int:
        refused = 0
        for _ in range(calls // CLIENTS):
            try:
                await assess(client, case)
            except OverloadedError:
                refused += 1
        return refused

    return sum(await asyncio.gather(*(one_client() for _ in range(CLIENTS))))


def direct_burst(direct: DirectChain, case: Case, calls: int) -> None:
    """The same number of direct calls from as many threads as there are cores."""
    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(lambda _: direct.read(case.decode), range(calls)))


async def assess(client: AssessmentClient, case: Case) -> None:
    """One call. Raises RuntimeError where there is no number: an abstention ends early and would look fast."""
    request = assessment_pb2.AssessRequest(radiograph=case.radiograph)
    response = await client.assess(request)
    if response.status != regression_pb2.ASSESSMENT_STATUS_OK:
        raise RuntimeError(f"{case.name} is not read ({response.abstention.explanation}): choose another --radiograph")


@asynccontextmanager
async def peak_memory(group: list[psutil.Process]) -> AsyncIterator[list[float]]:
    """Memory of the processes together in GiB, again and again while the context lasts."""
    seen = [memory_gib(group)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(MEMORY_INTERVAL_S)
            seen.append(memory_gib(group))

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()


def memory_gib(group: list[psutil.Process]) -> float:
    """What the processes hold together, each shared page counted once; resident pages where that is not known."""
    infos = [process.memory_full_info() for process in group]
    return float(sum(getattr(info, "pss", info.rss) for info in infos)) / 2**30


async def measure(radiograph: Path, rounds: int) -> Report:
    """Start the services and measure all cases."""
    threads = thread_budget(available_cores())
    # One direct call uses the cores as the services do: a model's threads, and one for everything else.
    cv2.setNumThreads(1)
    direct = DirectChain(read_settings(ModelSettings).model_repository, threads)
    supervisor = Supervisor()
    async with supervisor.running() as address, AssessmentClient(address, deadline_s=DEADLINE_S) as client:
        group = [psutil.Process(child.process.pid) for child in supervisor.children]
        idle_gib = memory_gib(group)
        cases = cases_of(radiograph)
        latencies = [await latency(client, direct, case, rounds) for case in cases]
        rates = [await throughput(client, direct, case, rounds, group) for case in cases]
    return Report(direct.release.id, available_cores(), threads, idle_gib, latencies, rates)


def table_of(title: str, rows: Sequence[Latency | Throughput]) -> Table:
    """One row for each case."""
    table = Table(*(field.name.replace("_", " ") for field in fields(rows[0])), title=title)
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in astuple(row)))
    return table


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radiograph", type=Path, help="DICOM, PNG or JPEG; by default the first sample")
    parser.add_argument("--rounds", type=int, default=24, help="calls of one client for each case")
    parser.add_argument("--out", type=Path, default=Path("build/speed.json"))
    arguments = parser.parse_args()
    radiograph = arguments.radiograph or min(SAMPLES.glob("*.dcm"))
    report = asyncio.run(measure(radiograph, arguments.rounds))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(asdict(report), indent=1) + "\n")
    console = Console()
    console.print(f"release {report.release}, {report.cores} cores, ONNX threads {report.onnx_threads}")
    console.print(table_of("one client", report.latency))
    console.print(table_of(f"{CLIENTS} clients at once", report.throughput))
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
