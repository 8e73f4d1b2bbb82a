"""The stored split: complete, fair to sex and age, never redrawn by accident."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import radiographs_folder
from training.data.radiographs import Dataset
from training.data.split import (
    BAND_MONTHS,
    MASK_TEST_CSV,
    SHARES,
    SPLIT_CSV,
    draw_split,
    read_ids,
    read_split,
    split_hash,
)
from training.run.exits import BadConfigurationError

STORED_SPLIT_SHA256 = "56088776c5ccf2ad831556145fc32fe4cd137042d634eb0c98be77a203efe780"


def strata_of(count, seed):
    """Sex and age band of radiographs of both sexes and all ages, by id."""
    ages = [float((i * 37 + seed) % 228) for i in range(count)]
    return {str(i): ((i * 7 + seed) % 3 > 0, int(age // BAND_MONTHS)) for i, age in enumerate(ages)}


@given(st.integers(200, 2000), st.integers(0, 100))
def test_each_stratum_has_the_shares(count, seed):
    """In every stratum of sex and age band each part has its share to within one radiograph."""
    strata = strata_of(count, seed)
    parts = draw_split(strata, always_train=[], seed=seed)
    assert parts.keys() == strata.keys()
    members = Counter((stratum, parts[id_]) for id_, stratum in strata.items())
    for stratum, size in Counter(strata.values()).items():
        for part, share in SHARES.items():
            assert abs(members[stratum, part] - share * size) <= 1


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 50))
def test_few_that_are_drawn_now_and_then_come_to_the_same_shares(at_once, strata, seed):
    """Whatever comes at a time, one of a stratum or many, each part has its share in the end."""
    rng = np.random.default_rng(seed)
    drawn, there = Counter(), Counter()
    for start in range(0, 600, at_once):
        new = {str(i): int(rng.integers(strata)) for i in range(start, min(start + at_once, 600))}
        for id_, part in draw_split(new, always_train=[], seed=seed, there=there).items():
            there[new[id_], part] += 1
            drawn[part] += 1
    assert drawn.total() == 600
    for part, share in SHARES.items():
        assert abs(drawn[part] - share * 600) <= 5


@given(st.integers(0, 1000))
def test_a_seed_draws_one_split(seed):
    """The same seed gives the same parts, and what must be in train is."""
    strata = strata_of(400, 1)
    fixed = list(strata)[::9]
    parts = draw_split(strata, always_train=fixed, seed=seed)
    assert parts == draw_split(strata, always_train=fixed, seed=seed)
    assert {parts[id_] for id_ in fixed} == {"train"}


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 50))
def test_what_is_always_train_is_train_however_much_it_is(count, share, seed):
    """Also in a stratum of few, most of which are outlined; the others still come into every part as they may."""
    ids = [str(i) for i in range(count)]
    fixed = ids[: round(share * count)]
    parts = draw_split(dict.fromkeys(ids, 0), always_train=fixed, seed=seed)
    assert parts.keys() == set(ids)
    assert {parts[id_] for id_ in fixed} <= {"train"}
    if len(fixed) > 0.85 * count:
        assert "train" not in {parts[id_] for id_ in ids[len(fixed) :]}


def test_the_stored_split_is_the_one_that_was_drawn():
    """A split drawn again would make old and new figures incomparable, so its bytes are fixed."""
    assert split_hash() == STORED_SPLIT_SHA256


def test_the_stored_split_has_the_shares():
    """80, 7, 6 and 7 percent, to within half a percent."""
    parts = read_split()
    counts = Counter(parts.values())
    assert {part: counts[part] / len(parts) for part in SHARES} == pytest.approx(SHARES, abs=0.005)


def test_the_held_back_masks_are_training_radiographs():
    """20 masks score the segmenter; their radiographs are in train, where the regressor may see them."""
    ids = read_ids(MASK_TEST_CSV)
    parts = read_split()
    assert len(set(ids)) == 20
    assert {parts[id_] for id_ in ids} == {"train"}


def test_an_unknown_part_is_refused(tmp_path):
    """It is named, with those that are known."""
    path = tmp_path / "split.csv"
    path.write_text("id,part\n1,train\n2,tset\n")
    with pytest.raises(BadConfigurationError, match=r"unknown parts \['tset'\]"):
        read_split(path)


def test_every_radiograph_has_a_part():
    """The stored split covers the challenge's training radiographs, and every drawn mask lies in train."""
    folder = radiographs_folder()
    parts = read_split()
    rsna = folder / "rsna-bone-age"
    stored = Dataset(rsna / "boneage-training-dataset", rsna / "boneage-training-dataset.csv").read()
    assert {radiograph.id for radiograph in stored} == parts.keys()
    masked = {path.stem for path in (folder / "hand-masks" / "mask").glob("*.png")}
    assert {parts[id_] for id_ in masked} == {"train"}
    assert masked >= set(read_ids(MASK_TEST_CSV))


def test_the_split_is_stored_beside_the_loader():
    """It travels with the package."""
    assert SPLIT_CSV.is_file()
