"""Kept maps of frozen flows: how much room they may take, and who makes room for whom."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.run.exits import BadConfigurationError  # noqa: E402
from training.transfer import prefix  # noqa: E402
from training.transfer.prefix import PrefixCache  # noqa: E402


def test_cache_that_would_not_fit_is_refused(tmp_path, monkeypatch):
    """Before anything is computed, with the sizes in the message."""
    monkeypatch.setattr(prefix, "LIMIT_BYTES", 1000)
    PrefixCache.open(tmp_path, "small", rows=10, shape=(1, 5, 5))
    with pytest.raises(BadConfigurationError, match=r"0\.0 GB are left"):
        PrefixCache.open(tmp_path, "key", rows=10, shape=(100, 7, 7))
    assert [file.stem for file in tmp_path.glob("*.maps")] == ["small"]


def test_cache_makes_room_for_another(tmp_path, monkeypatch):
    """What was opened longest ago goes first; a run that reads it still can."""
    monkeypatch.setattr(prefix, "LIMIT_BYTES", 2500)
    shape = {"rows": 10, "shape": (1, 5, 5)}
    first = PrefixCache.open(tmp_path, "first", **shape)
    first.fill(np.arange(10), lambda rows: np.ones((len(rows), 1, 5, 5), np.float32))
    PrefixCache.open(tmp_path, "second", **shape)
    PrefixCache.open(tmp_path, "third", **shape)
    assert {file.stem for file in tmp_path.glob("*.maps")} == {"second", "third"}
    assert first.read(np.arange(10)).sum() == 250
    PrefixCache.open(tmp_path, "second", **shape)
    PrefixCache.open(tmp_path, "first", **shape)
    assert {file.stem for file in tmp_path.glob("*.maps")} == {"second", "first"}
    assert not PrefixCache.open(tmp_path, "first", **shape).filled.any()
