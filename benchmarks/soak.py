"""What the serving side stands with the embedded models, real Tritons and two of every service; at most 45 minutes.

    python -m benchmarks.soak [--radiographs DIR] [--only NAME ...] [--scale 0.1] [--out FILE.json]

Nothing here is a test that passes or fails: it prints what was found beside what is promised. Load goes to the loopback
only, in a bounded number of calls.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from boneage.v1 import common_pb2
from services.cli.demo import SAMPLES
from tests import soak
from tests.group import Group, embedded, running_group
from tests.load import DEADLINE_S, Case, prepared
from tests.overload import cancelled, overloaded

RADIOGRAPHS: Final = 24
Row = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is done; a whole run is a scale of 1."""

    calls: int = 10_000
    cycles: int = 12
    republished: int = 200
    seconds: float = 60.0
    rounds: int = 200
    spread: int = 600

    def scaled(self, scale: float) -> "Amounts":
        """Less of everything."""
        return Amounts(*(type(value)(max(2, value * scale)) for value in (getattr(self, n) for n in self.__slots__)))


async def rollouts(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """1: releases and processes change under load."""
    tally, changes = await soak.rolling(group, cases, calls=amounts.calls, cycles=amounts.cycles)
    yield "calls answered", str(len(tally.answers)), f"of {amounts.calls} or more"
    yield "failed or refused", str(len(tally.failures) + len(tally.refused)), "0"
    yield "answers of mixed releases", str(len(tally.mixed(group))), "0"
    yield "promoted, tried as canary", f"{changes.promoted}, {changes.canaried}", ""
    yield "stopped and started", ", ".join(changes.restarted), "all"
    yield "slowest rollback", f"{changes.slowest_rollback_s(tally):.2f} s", "30 s"
    if tally.failures:
        yield "first failure", tally.failures[0], ""


async def kills(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """2: both Tritons are killed in mid-load."""
    del amounts
    found = await soak.killed(group, cases)
    kinds = sorted({failure.split(":")[0] for failure in found.tally.failures})
    yield "kinds of errors", ", ".join(kinds) or "none", "ModelUnavailableError"
    yield "slowest error", f"{found.tally.slowest_failure_s:.1f} s", f"{DEADLINE_S:.0f} s"
    yield "until nobody claims to serve", f"{found.noticed_s:.1f} s", ""
    yield "from Triton's return to all serving", f"{found.recovered_s:.1f} s", "10 s"


async def overload(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """3: three times what can be done; and callers who go."""
    found = await overloaded(group, cases, seconds=amounts.seconds)
    yield "peak", f"{found.peak_per_s:.1f} a second", ""
    yield "goodput at three times that", f"{found.goodput_per_s / found.peak_per_s:.2f} of the peak", "0.80"
    yield "answered, refused, failed", f"{found.answered}, {found.refused}, {len(found.failures)}", "none failed"
    if found.failures:
        yield "first failure", found.failures[0], ""
    yield "a refusal takes (p95)", f"{found.refusal_p95_s * 1e3:.0f} ms", "early"
    yield "memory", f"{found.growth:+.1%}", "flat"
    gone = await cancelled(group, cases)
    what = f"executions ended later than 100 ms after {gone.calls} calls were cancelled"
    yield what, str(list(gone.late.values())), f"at most {gone.at_once} of each model, underway then"


async def overhead(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """4: the regression service against Triton itself."""
    ours, direct = await soak.overhead_ms(group, cases[0], rounds=amounts.rounds)
    for percentile, promised in ((50, "5 ms"), (99, "15 ms")):
        a, b = np.percentile(ours, percentile), np.percentile(direct, percentile)
        yield f"p{percentile}: service, Triton, difference", f"{a:.1f}, {b:.1f}, {a - b:+.1f} ms", promised


async def memory(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """6: publish and roll back, again and again."""
    del cases
    warm_up = max(1, amounts.republished // 10)
    before, after = await soak.republished(group, cycles=amounts.republished, warm_up=warm_up)
    yield "cycles", str(amounts.republished), ""
    yield f"memory after {warm_up} and after all", f"{before / 2**20:.0f}, {after / 2**20:.0f} MiB", ""
    yield "growth", f"{after / before - 1:+.1%}", "5%"


async def alone(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """7: without the release service, every service started anew."""
    tally = await soak.without_releases(group, cases, calls=amounts.calls // 20, instances=2)
    yield "calls answered", str(len(tally.answers)), ""
    yield "failed or refused", str(len(tally.failures) + len(tally.refused)), "0"
    if tally.failures:
        yield "first failure", tally.failures[0], ""


async def spread(group: Group, cases: Sequence[Case], amounts: Amounts) -> AsyncIterator[Row]:
    """5: four Tritons, and one that comes later."""
    counts = await soak.spread(group, cases, calls=amounts.spread)
    yield "inferences of each", str(counts), ""
    yield "busiest over least busy", f"{max(counts) / min(counts):.2f}", "1.20"
    group.tritons[3].kill()
    await soak.until_left(group, group.tritons[3])
    await asyncio.to_thread(group.tritons[3].start)
    seconds = await soak.until_shared(group, cases, group.tritons[3], timeout_s=60)
    yield "a new one gets its share after", f"{seconds:.1f} s", "30 s"


Scenario = Callable[[Group, Sequence[Case], Amounts], AsyncIterator[Row]]
TWO_OF_EACH: Final[tuple[Scenario, ...]] = (overhead, rollouts, kills, alone, overload, memory)
FOUR_TRITONS: Final[tuple[Scenario, ...]] = (spread,)


@asynccontextmanager
async def grouped(folder: Path, radiographs: Sequence[common_pb2.Radiograph], **sizes: int) -> AsyncIterator[Any]:
    """A group with the embedded models, and the cases for it."""
    release, weights = embedded()
    async with running_group(folder, release, weights, **sizes) as group:
        yield group, await prepared(group, radiographs)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All scenarios that were asked for, in groups of their own where they need other sizes."""
    amounts, found = Amounts().scaled(arguments.scale), {}
    radiographs = pictures(arguments.radiographs)
    for scenarios, sizes in ((TWO_OF_EACH, {}), (FOUR_TRITONS, {"tritons": 4, "instances": 1})):
        wanted = [s for s in scenarios if not arguments.only or s.__name__ in arguments.only]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="boneage-soak-") as folder:
            async with grouped(Path(folder), radiographs, **sizes) as (group, cases):
                for scenario in wanted:
                    found[scenario.__name__] = await timed(scenario(group, cases, amounts), scenario)
    return found


async def timed(rows: AsyncIterator[Row], scenario: Scenario) -> dict[str, Any]:
    """Print a scenario's findings as they come; with how long it took and how busy the machine was."""
    began_s, table = time.monotonic(), Table(str(scenario.__doc__), "found", "promised")
    kept = [row async for row in rows]
    for row in kept:
        table.add_row(*row)
    took = f"{time.monotonic() - began_s:.0f} s, load average {psutil.getloadavg()[0]:.1f}"
    table.add_row("took", took, "")
    Console(width=150).print(table)
    return {"took": took, **{name: value for name, value, _ in kept}}


def pictures(folder: Path | None) -> list[common_pb2.Radiograph]:
    """Radiographs to ask with: the first of a folder, in order of their names, or the project's samples."""
    files = sorted((folder or SAMPLES).glob("*.*g" if folder else "*.dcm"))[:RADIOGRAPHS]
    return [
        common_pb2.Radiograph(dicom=file.read_bytes()) if file.suffix == ".dcm" else
        common_pb2.Radiograph(encoded=file.read_bytes())
        for file in files
    ]  # fmt: skip


def main() -> None:
    """Run what was asked for, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radiographs", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"cores": os.cpu_count(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
