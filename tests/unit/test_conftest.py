"""In CI a test that would be skipped fails, since there nothing may be missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = {
    "a test": 'import pytest\ndef test_it(): pytest.skip("no oracle")\n',
    "a module": 'import pytest\npytest.importorskip("no_such_oracle", reason="no oracle")\n',
}


@pytest.mark.parametrize("skipping", SKIPS)
@pytest.mark.parametrize(("ci", "outcome"), [("true", ("fail", "error")), ("", ("skipped",))])
def test_what_is_missing_fails_in_ci_only(tmp_path, skipping, ci, outcome):
    """The reason is shown in both cases."""
    (tmp_path / "test_skipping.py").write_text(SKIPS[skipping])
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-ra", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "no oracle" in run.stdout
    assert any(word in run.stdout.splitlines()[-1] for word in outcome), run.stdout
