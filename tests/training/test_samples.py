"""Which images a step of transfer learning draws, and how: each once, every age alike, a third from bad files."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from tests.training.staged import SIDE, examples  # noqa: E402
from training.data.augment import UNCHANGED, augment, draw_change, draw_storage  # noqa: E402
from training.transfer.images import BAD_FILES_SHARE, GOOD_FILE, ROTATION_DEG, Sampler, Stored  # noqa: E402


@given(st.integers(1, 300), st.integers(1, 16), st.integers(0, 5))
def test_an_epoch_shows_every_image_once(count, batch, seed):
    """Up to the last batch, which is left out where it is not whole."""
    batch = min(batch, count)
    sampler = Sampler(count, batch, seed)
    per_epoch = count // batch
    for epoch in (0, 3):
        seen = np.concatenate([sampler.draw(epoch * per_epoch + i + 1) for i in range(per_epoch)])
        assert len(np.unique(seen)) == per_epoch * batch


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 1000))
def test_balanced_sampling_draws_every_bin_equally_often(sizes, seed):
    """However few images a bin has; and the draw is a function of seed and step."""
    bins = np.repeat(np.arange(len(sizes)), sizes)
    sampler = Sampler(len(bins), 1, seed, bins)
    drawn = np.concatenate([Sampler(len(bins), len(bins), seed, bins).draw(step) for step in range(1, 400)])
    shares = np.bincount(bins[drawn], minlength=len(sizes)) / len(drawn)
    deviation = np.sqrt(1 / len(sizes) / len(drawn))
    assert np.abs(shares - 1 / len(sizes)).max() < 6 * deviation
    assert np.array_equal(sampler.draw(7), sampler.draw(7))


def test_a_third_of_what_is_augmented_comes_from_bad_files():
    """Of those that have one, in place of drawn ones, with the rest of the change; what measures stays as it is."""
    good, bad = examples(4, seed=0), np.full((3, SIDE, SIDE), 255, np.uint8)
    rows = np.array([2, 0, -1, 1])
    both = replace(good, bad_files=Stored(bad, rows))
    keys = [(7, step) for step in range(300)]

    def changed(image, key):
        change = draw_change(np.random.default_rng(key), rotation_deg=ROTATION_DEG)
        return augment(image.astype(np.float32) / np.float32(255), replace(change, **GOOD_FILE))

    def shows(image, index, key):
        return np.array_equal(both.augmented(index, key), changed(image, key))

    same = np.array([[shows(good.source[good.rows[i]], i, key) for key in keys] for i in range(4)])
    others = [(i, key) for i in (0, 1, 3) for j, key in enumerate(keys) if not same[i, j]]
    assert all(shows(bad[rows[i]], i, key) for i, key in others)
    stored = [asdict(draw_storage(UNCHANGED, np.random.default_rng(seed))) for seed in range(50)]
    as_it_came = asdict(UNCHANGED)
    assert {name for one in stored for name in one if one[name] != as_it_came[name]} == set(GOOD_FILE)
    assert all(np.array_equal(both.augmented(2, key), good.augmented(2, key)) for key in keys)
    assert 0.4 < same[2].mean() < 0.6
    low, high = np.array([-4, 4]) * np.sqrt(BAD_FILES_SHARE * (1 - BAD_FILES_SHARE) / len(keys)) + BAD_FILES_SHARE
    assert all(low < share < high for share in 1 - same[[0, 1, 3]].mean(axis=1))
    assert np.array_equal(both.augmented(3, keys[0]), both.augmented(3, keys[0]))
    some = both.take(np.array([3, 2]))
    assert np.array_equal(some.augmented(0, keys[1]), both.augmented(3, keys[1]))
    np.testing.assert_array_equal(both.floats(np.arange(4)), good.floats(np.arange(4)))
    assert both.digest() == good.digest()
    others = [good, both, replace(good, bad_files=Stored(bad, rows[::-1].copy())),
              replace(good, bad_files=Stored(bad - 1, rows))]  # fmt: skip
    assert len({each.digest(augmented=True) for each in others}) == len(others)
