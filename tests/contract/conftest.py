"""A store of a test's own, of either kind."""

import pytest

from tests.s3 import running_s3


@pytest.fixture(scope="module")
def s3():
    """One S3 server for all of a module."""
    with running_s3() as server:
        yield server


@pytest.fixture(params=["folder", "S3"])
def url(request, tmp_path):
    """A store of this test's own."""
    if request.param == "S3":
        return f"{request.getfixturevalue('s3').url}/{tmp_path.name}"
    return str(tmp_path / "store")
