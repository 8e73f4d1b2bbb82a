"""What training does to hands: drawn from a seed, and never more than is meant."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import augment as augmenting
from training.data.augment import UNCOMPRESSED, Change, Lobe, apply_lobe, augment, badly_stored, draw_change, store
from training.data.scenes import drawing

SIDE = 48
NOTHING = Change(
    mirror=False, rotation_deg=0, scale=1, shear=0, shift=(0, 0), gamma=1, gain=1, offset=0, sharpen=0, noise=0,
    noise_seed=0,
)  # fmt: skip


def hand():
    """A textured disc on exact zero."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (rows - 24) ** 2 + (columns - 20) ** 2 < 14**2
    texture = 0.5 + 0.3 * np.sin(rows / 3) * np.cos(columns / 4)
    return np.where(disc, texture, 0).astype(np.float32)


def lobe(**changes):
    """An ellipse over the edge of the disc."""
    values = {"joins": True, "centre": (0.7, 0.5), "axes": (0.1, 0.05), "angle_deg": 20.0, "grey": 0.4} | changes
    return Lobe(**values)


def test_no_change_changes_nothing():
    """The change that says so."""
    np.testing.assert_allclose(augment(hand(), NOTHING), hand(), atol=1e-6)


@given(st.integers(0, 10**6))
def test_a_seed_draws_one_image(seed):
    """In [0, 1], the same each time."""
    one, other = (augment(hand(), draw_change(np.random.default_rng(seed), rotation_deg=50)) for _ in range(2))
    assert np.array_equal(one, other)
    assert one.shape == (SIDE, SIDE)
    assert one.min() >= 0
    assert one.max() <= 1


@given(st.floats(0.3, 1), st.integers(10, UNCOMPRESSED))
def test_storage_keeps_the_picture(resolution, quality):
    """A coarser file is the same hand: where it is and how bright, to a few grey levels on average."""
    stored = store(hand(), replace(NOTHING, resolution=resolution, jpeg_quality=quality))
    assert stored.shape == (SIDE, SIDE)
    assert stored.mean() == pytest.approx(hand().mean(), abs=0.03)
    assert np.abs(stored - hand()).mean() < 0.08


@given(st.integers(0, 10**6))
def test_a_bad_file_shows_the_same_radiograph(seed):
    """Of any shape, in [0, 1], the same each time; dark stays darker than bright."""
    radiograph = np.tile(hand(), (3, 2))
    one, other = (badly_stored(radiograph, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one, other)
    assert one.shape == radiograph.shape
    assert 0 <= one.min() <= one.max() <= 1
    assert np.corrcoef(one.ravel(), radiograph.ravel())[0, 1] > 0.8


def test_some_files_are_overexposed():
    """Their bright parts lose their grey levels: more of them are white than were, in some draws and not in all."""
    radiograph = np.clip(np.tile(hand(), (2, 2)) * 1.2, 0, 1)
    white = [(badly_stored(radiograph, np.random.default_rng(seed)) > 0.98).mean() for seed in range(60)]
    assert 0.05 < np.mean(np.array(white) > (radiograph > 0.98).mean() + 0.05) < 0.6


def test_other_draws_are_told(monkeypatch):
    """What is drawn from the same seeds has one name; any other range has another."""
    before = drawing()
    assert drawing() == before
    monkeypatch.setattr(augmenting, "DARKEST", 0.1)
    assert drawing() != before


def test_background_stays_empty():
    """Noise, offsets and compression reach the hand alone."""
    noisy = replace(NOTHING, noise=0.2, offset=0.1, gain=0.8, jpeg_quality=10, resolution=0.5)
    assert augment(hand(), noisy)[hand() == 0].max() == 0


def test_joining_lobe_covers_background_alone_and_a_lost_one_the_hand_alone():
    """What was there of the hand keeps its grey levels."""
    before = hand()
    joined, lost = apply_lobe(before, lobe()), apply_lobe(before, lobe(joins=False))
    assert np.array_equal(joined[before > 0], before[before > 0])
    assert set(np.unique(joined[before == 0])) == {np.float32(0), np.float32(0.4)}
    assert (lost == 0).sum() > (before == 0).sum()
    assert np.array_equal(lost[lost > 0], before[lost > 0])
