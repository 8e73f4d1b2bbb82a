"""The figures on activation maps, against maps whose answer is known."""

import numpy as np
import pytest

from benchmarks.activation import STEPS, deletion, enrichment, lay
from services.core.domain.contracts import SEX_ORDER

SIDE, GRID = 64, 8


def test_enrichment_of_known_maps():
    """A flat map has 1, one that lies on a quarter of the hand alone has 4, one beside it has none."""
    inside = np.ones((SIDE, SIDE), bool)
    inside[:, :16] = False
    labelled = np.zeros_like(inside)
    labelled[:16] = True
    assert enrichment(np.full((SIDE, SIDE), 0.3), labelled, inside) == pytest.approx(1)
    assert enrichment(labelled.astype(float), labelled, inside) == pytest.approx(4)
    assert enrichment((~labelled).astype(float), labelled, inside) == 0


def test_a_grid_is_laid_from_corner_to_corner():
    """Cells keep their places and the mean is kept where the grid is flat."""
    grid = np.zeros((GRID, GRID), np.float32)
    grid[1, 6] = 5
    laid = lay(grid, (SIDE, SIDE))
    row, column = np.unravel_index(laid.argmax(), laid.shape)
    assert (row // 8, column // 8) == (1, 6)
    assert lay(np.full((GRID, GRID), 2, np.float32), (SIDE, SIDE)) == pytest.approx(2)


class Weighing:
    """A chain whose age is the weighted sum of the hand's pixels, so that its exact map is known."""

    def __init__(self, weights):
        self.weights = weights

    def regress(self, hands):
        """Ages of hands (N, 1, S, S), the same for every sex."""
        ages = (hands[:, 0] * self.weights).sum((1, 2))
        return {"age_months": np.repeat(ages[:, None], len(SEX_ORDER), 1)}


def test_deletion_by_a_true_map_moves_the_age_more_than_chance():
    """All of it is lost once the cells that count are blanked; chance takes longer."""
    rng = np.random.default_rng(3)
    cells = np.zeros((GRID, GRID), np.float32)
    cells.ravel()[rng.permutation(GRID * GRID)[:6]] = 1
    weights = np.kron(cells, np.ones((SIDE // GRID, SIDE // GRID), np.float32))
    hand = np.ones((SIDE, SIDE), np.float32)
    by_map, at_random = deletion(Weighing(weights), hand, cells, rng)
    assert by_map.shape == (len(STEPS),)
    assert by_map[1] == pytest.approx(weights.sum())  # a tenth of 64 cells holds all six
    assert at_random[1] < 0.5 * by_map[1]
