"""Kills a process at random moments, as a power cut would: what it leaves must let the next one go on."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.waiting import until

PATIENCE_S = 300


def undisturbed(command: Sequence[str], begins: Path) -> float:
    """Run it to its end; the seconds from when it changed anything in the folder `begins`."""
    process = _started(command, begins)
    since = time.monotonic()
    assert process.wait(PATIENCE_S) == 0
    return time.monotonic() - since


def kill_at_random(command: Sequence[str], begins: Path, *, within_s: float, times: int) -> None:
    """Start it so many times, each to be killed at a random moment within `within_s` after it changed `begins`.

    What it has started must be gone too before the next one starts.
    """
    seed = random.randrange(2**32)
    print(f"the moments are drawn with the seed {seed}")  # noqa: T201 -- pytest shows it where the test fails
    draw = random.Random(seed)
    for _ in range(times):
        process = _started(command, begins)
        try:
            process.wait(draw.uniform(0, within_s))
        except subprocess.TimeoutExpired:
            children = _children(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_S)
            asyncio.run(until(lambda all_=children: not any(_alive(pid) for pid in all_), timeout_s=PATIENCE_S))


def _started(command: Sequence[str], begins: Path) -> subprocess.Popen[bytes]:
    """A process that has changed the folder `begins`, or is over."""
    before = _changed(begins)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    asyncio.run(until(lambda: process.poll() is not None or _changed(begins) != before, timeout_s=PATIENCE_S))
    return process


def _changed(folder: Path) -> int:
    """When anything in a folder last changed; what goes meanwhile is left out."""
    latest = 0
    for place, _, names in os.walk(folder):
        for name in (".", *names):
            with suppress(FileNotFoundError):
                latest = max(latest, Path(place, name).stat().st_mtime_ns)
    return latest


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in tasks for child in file.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except FileNotFoundError:
        return False
