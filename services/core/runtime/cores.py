"""How many cores this process may use: those that it may run on, and not more than its control group's quota."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")
QUOTA: Final = re.compile(r"(?P<us>\d+)\s+(?P<of_us>\d+)")


def available_cores(groups: Path = CONTROL_GROUPS, own: Path = OWN_GROUPS) -> int:
    """Cores, at least one; a quota, as a container's CPU limit is, is rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(groups, own))]))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """Quotas in cores, of our control groups (versions 1 and 2) and all above them that are seen from here."""
    for line in _text(own).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        # In a container the place may be the host's name for it, and what is mounted here is that group itself.
        for above in (PurePosixPath(place), *PurePosixPath(place).parents):
            yield from _quota(root / above.relative_to("/"))


def _quota(group: Path) -> Iterator[float]:
    """The quota of one group, where it has one: `max` in version 2, and -1 in version 1, stand for none."""
    limit = _text(group / "cpu.max") or f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    if match := QUOTA.match(limit):
        yield int(match["us"]) / int(match["of_us"])


def _text(file: Path) -> str:
    """What a file holds; nothing where there is none, as on other systems."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
