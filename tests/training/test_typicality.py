"""The scores that tell whether a hand is like those of the training, fitted on few images as on many."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the training extra: pip install -e '.[training]'")

from training.evaluation.typicality import COMPONENTS, fit_typicality  # noqa: E402


@pytest.mark.parametrize("count", [40, 400])
def test_images_that_it_was_not_fitted_on_are_near_as_well(count):
    """Of few images no direction is kept along which they hardly differ: all others would be far off along it."""
    rng = np.random.default_rng(1)

    def drawn(number, shift=0.0):
        return rng.normal(shift, 1, (number, 600)).astype(np.float32)

    own = drawn(count)
    fitted = fit_typicality(own, drawn(count, 3), drawn(count, -3))
    assert fitted.whitening.shape[1] == min(COMPONENTS, count // 2)

    def distance(features):
        return float(((torch.from_numpy(features) - fitted.mean) @ fitted.whitening).square().mean().sqrt())

    assert distance(own) == pytest.approx(1, abs=0.05)
    assert distance(drawn(50)) < 3
    assert distance(drawn(50, 3)) > 2 * distance(drawn(50))
