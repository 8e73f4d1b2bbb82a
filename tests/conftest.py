"""What the tests need from outside the project, and the rule that in CI none of it may be missing."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings

IN_CI: Final = bool(os.environ.get("CI"))
# A loaded machine is slow, which says nothing of the code.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=IN_CI)
settings.load_profile("project")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def radiographs_folder() -> Path:
    """The folder with `rsna-bone-age`, `larger-radiographs` and `dicom`; the test is skipped where there is none."""
    return _folder("TEST_RADIOGRAPHS", "the folders that docs/evaluation.md describes")


def dicom_folder() -> Path:
    """The folder of public DICOM files of other body parts; the test is skipped where there is none."""
    return _folder(
        "TEST_DICOM",
        "RG3_*.dcm of NEMA's WG04 compression samples (medical.nema.org) and highdicom's dx_image.dcm as "
        "highdicom_dx_image.dcm",
    )


def _folder(variable: str, content: str) -> Path:
    folder = os.environ.get(variable, "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{variable} names no folder; let it name one with {content}")
    return Path(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what would be skipped, in CI."""
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail what would be skipped as a whole module, in CI."""
    return _required((yield))


def _required(report: Report) -> Report:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"In CI nothing may be missing. {reason}"
    return report
