"""Cores that a process may use: its affinity, and the quotas of its control groups in both versions."""

import os
from pathlib import Path

import pytest

from services.core.runtime.cores import available_cores

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def groups(root: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Control groups as the kernel shows them."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    (root / "own").write_text(own)
    return root, root / "own"


V1 = "12:memory:/docker/12ab\n4:cpu,cpuacct:{}\n1:name=systemd:/\n0::/\n"


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "4000000 1000000"}, 4),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/system.slice/boneage.service\n", {"system.slice/boneage.service/cpu.max": "300000 100000"}, 3),
        ("0::/pod/one\n", {"pod/cpu.max": "200000 100000", "pod/one/cpu.max": "max 100000"}, 2),
        ("0::/kubepods/pod1/of-the-host\n", {"cpu.max": "250000 100000"}, 3),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (V1.format("/docker/12ab"), {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (V1.format("/docker/12ab"), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        (V1.format("/a"), {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "50000"}, 2),
        ("", {}, 64),
    ],
)
def test_quota_bounds_the_cores(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    """The least of all quotas counts, rounded up; without one, all cores."""
    assert available_cores(*groups(tmp_path, own, files)) == cores


def test_quota_above_the_affinity_changes_nothing(tmp_path: Path) -> None:
    """A limit of 1000 cores makes no more of them; a system without control groups has those that there are."""
    assert available_cores(*groups(tmp_path, "0::/\n", {"cpu.max": "100000000 100000"})) == ALL
    assert available_cores(tmp_path / "none", tmp_path / "none") == ALL
