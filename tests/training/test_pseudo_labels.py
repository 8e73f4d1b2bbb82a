"""Outlines that a segmenter may learn from are those that it draws alike however the radiograph is shown."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.active_learning.pseudo_labels import pseudo_label, views  # noqa: E402


class Brightness(torch.nn.Module):
    """Takes for a hand what is brighter than a half."""

    def forward(self, x):
        """Logits (B, 1, S, S)."""
        return (x - 0.5) * 60


def test_a_clear_hand_is_drawn_alike():
    """Mirrored, brighter, darker or softer: the same outline, and the right one."""
    image = np.full((64, 64), 0.1, np.float32)
    image[10:50, 8:30] = 0.9
    mask, agreement = pseudo_label(Brightness(), image)
    assert np.array_equal(mask, image > 0.5)
    assert agreement > 0.95


def test_what_depends_on_exposure_is_no_label():
    """Where grey levels lie about the network's own limit the views disagree."""
    image = np.tile(np.linspace(0.2, 0.8, 64, dtype=np.float32), (64, 1))
    _, agreement = pseudo_label(Brightness(), image)
    assert agreement < 0.85


def test_views_keep_the_place_of_everything():
    """Only grey levels change: a bright point stays where it is."""
    image = np.zeros((33, 33), np.float32)
    image[20, 5] = 1
    assert all(np.unravel_index(np.argmax(view), view.shape) == (20, 5) for view, _ in views(image))
