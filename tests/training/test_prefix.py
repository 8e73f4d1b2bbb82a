"""Kept maps of frozen flows: how much room they may take, and who makes room for whom."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.run.exits import BadConfigurationError  # noqa: E402
from training.transfer import prefix  # noqa: E402
from training.transfer.devices import TYPES  # noqa: E402
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
    first.fill(np.arange(10), lambda rows: torch.ones(len(rows), 1, 5, 5))
    PrefixCache.open(tmp_path, "second", **shape)
    PrefixCache.open(tmp_path, "third", **shape)
    assert {file.stem for file in tmp_path.glob("*.maps")} == {"second", "third"}
    assert first.read(np.arange(10)).sum() == 250
    PrefixCache.open(tmp_path, "second", **shape)
    PrefixCache.open(tmp_path, "first", **shape)
    assert {file.stem for file in tmp_path.glob("*.maps")} == {"second", "first"}
    assert not PrefixCache.open(tmp_path, "first", **shape).filled.any()


@pytest.mark.parametrize("left", ["old.maps", "old.rows"])
def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path, monkeypatch, left):
    """It died between making, or deleting, one file of a cache and the other."""
    monkeypatch.setattr(prefix, "LIMIT_BYTES", 2500)
    shape = {"rows": 10, "shape": (1, 5, 5)}
    PrefixCache.open(tmp_path, "old", **shape).fill(np.arange(10), lambda rows: torch.ones(len(rows), 1, 5, 5))
    for path in tmp_path.glob("old.*"):
        if path.name != left:
            path.unlink()
    assert not PrefixCache.open(tmp_path, "old", **shape).filled.any()
    for path in tmp_path.glob("old.*"):
        if path.name != left:
            path.unlink()
    for key in ("new", "newer", "newest"):
        PrefixCache.open(tmp_path, key, **shape)
    assert {file.stem for file in tmp_path.glob("*.maps")} == {"newer", "newest"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_maps_come_back_as_they_were_computed(tmp_path, precision):
    """To the last bit, also those that another precision could not hold."""
    kept = PrefixCache.open(tmp_path, "key", rows=3, shape=(2, 2, 1), precision=precision)
    greatest = {"fp32": 3e38, "fp16": 6e4, "bf16": 3e38}[precision]
    made = torch.tensor([greatest, -1e-5, 1 / 3, 0.0]).reshape(1, 2, 2, 1).expand(3, 2, 2, 1).to(TYPES[precision])
    assert kept.fill(np.arange(3), lambda rows: made[: len(rows)]) == 3
    assert torch.equal(kept.read(np.array([2, 0])), made[:2].float())
