"""What the enhancer learns to undo: drawn from a generator alone, and nothing outside the hand."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.enhancement.degrade import KINDS, UNCHANGED, Collimation, Shares, degrade, draw_degradation, draw_kind

SIDE = 96
SEEDS = st.integers(0, 2**31)


def hand():
    """A grey ellipse with a brighter bone, zero outside."""
    image = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(image, (SIDE // 2, SIDE // 2), (30, 40), 0, 0, 360, 0.4, -1)
    cv2.line(image, (40, 20), (55, 75), 0.8, 6)
    return image


@given(SEEDS)
def test_a_hand_stays_a_hand(seed):
    """Whatever is drawn: within [0, 1], zero outside, never zero inside, and the same from the same draw."""
    image = hand()
    drawn = draw_degradation(np.random.default_rng(seed), Shares(collimation=0.5, inversion=0.5))
    changed = degrade(image, drawn)
    assert np.array_equal(changed > 0, image > 0)
    assert changed.max() <= 1
    assert np.array_equal(changed, degrade(image, drawn))


@given(SEEDS)
def test_without_shares_the_draws_are_those_of_before(seed):
    """A configuration that gives none draws nothing for them: the next draw of its generator is the same too."""
    rng, with_shares = np.random.default_rng(seed), np.random.default_rng(seed)
    plain, rare = draw_degradation(rng), draw_degradation(with_shares, Shares(collimation=1, inversion=1))
    assert (plain.collimation, plain.inverted) == (None, False)
    assert rare.collimation
    assert rare.inverted
    assert asdict(rare) | {"collimation": None, "inverted": False} == asdict(plain)
    assert with_shares.bit_generator.state != rng.bit_generator.state


def test_the_embedded_enhancer_could_be_trained_again():
    """Its draws are what they were when it was trained: nothing has been drawn between or changed its order."""
    rng = np.random.default_rng(3)
    last = [draw_degradation(rng) for _ in range(8)][-1]
    assert (last.gamma, last.noise_seed) == (1.4945808494993629, 1303273010)
    assert rng.random() == 0.4928469789243326


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn_alone(kind):
    """It is there in every draw, nothing else is, and the hand is another."""
    for seed in range(20):
        drawn = asdict(draw_kind(kind, np.random.default_rng(seed)))
        changed = {name for name, value in asdict(UNCHANGED).items() if drawn[name] != value}
        assert changed <= set(KINDS[kind])
        assert KINDS[kind][0] in changed
    assert not np.array_equal(degrade(hand(), draw_kind(kind, np.random.default_rng(1))), hand())


def test_shares_are_how_often():
    """Of many draws about as many as were asked for."""
    rng = np.random.default_rng(0)
    drawn = [draw_degradation(rng, Shares(collimation=0.3, inversion=0.1)) for _ in range(2000)]
    assert np.mean([one.collimation is not None for one in drawn]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([one.inverted for one in drawn]) == pytest.approx(0.1, abs=0.03)


def test_a_negative_undoes_itself():
    """Twice inverted is as before, up to the level that keeps a hand from being taken for its surroundings."""
    negative = degrade(hand(), draw_kind("inversion", np.random.default_rng(0)))
    np.testing.assert_allclose(degrade(negative, draw_kind("inversion", np.random.default_rng(0))), hand(), atol=1e-6)


def test_a_border_dims_what_it_cuts_off_and_leaves_the_rest():
    """A quarter at the top: less there by the same share, a brighter line between, the same below it."""
    border = Collimation(cut=(0.25, -0.2, -0.2, -0.2), turned_deg=0, dimmed=0.5, edge=0.3, edge_px=1, soft_px=0.5)
    image = hand()
    changed = degrade(image, replace(UNCHANGED, collimation=border))
    top, cut = SIDE // 2 - 40, SIDE // 2 - 20
    np.testing.assert_allclose(changed[top + 1 : cut - 4], image[top + 1 : cut - 4] / 2, atol=1e-3)
    np.testing.assert_allclose(changed[cut + 4 :], image[cut + 4 :], atol=1e-3)
    assert (changed - image)[cut - 1 : cut + 2].max() > 0.05
