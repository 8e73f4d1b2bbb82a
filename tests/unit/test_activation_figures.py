"""The figures on activation maps, against maps whose answer is known."""

import csv

import cv2
import numpy as np
import pytest

from benchmarks import activation as benchmark
from benchmarks.activation import STEPS, deletion, enrichment, lay
from services.core.domain.contracts import SEX_ORDER
from services.core.domain.preprocess import to_frame, whole
from services.enhancement.pipeline import Hand
from training.data.split import read_split

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
    """A chain whose age of one sex is the weighted sum of the hand's pixels, so that its exact map is known.

    Of the other sexes it sees nothing.
    """

    def __init__(self, weights, sex):
        self.weights, self.row = weights, SEX_ORDER.index(sex)

    def hand(self, pixels, true_shape):
        """All of the frame, white: everything is hand."""
        crop = whole(to_frame(pixels, true_shape=true_shape))
        return Hand(np.ones((SIDE, SIDE), np.float32), crop, negative=False)

    def regress(self, hands):
        """Ages of hands (N, 1, S, S) and their maps."""
        ages = np.zeros((len(hands), len(SEX_ORDER)))
        ages[:, self.row] = (hands[:, 0] * self.weights).sum((1, 2))
        maps = np.zeros((len(hands), len(SEX_ORDER), GRID, GRID), np.float32)
        maps[:, self.row] = self.weights[:: SIDE // GRID, :: SIDE // GRID]
        return {"age_months": ages, "activation": maps}


def weights_of(cells):
    """Weights (S, S) that are those of their cell."""
    return np.kron(cells, np.ones((SIDE // GRID, SIDE // GRID), np.float32))


def test_deletion_by_a_true_map_moves_the_age_more_than_chance():
    """All of it is lost once the cells that count are blanked; chance takes longer. Another sex's age stays."""
    rng = np.random.default_rng(3)
    cells = np.zeros((GRID, GRID), np.float32)
    cells.ravel()[rng.permutation(GRID * GRID)[:6]] = 1
    weights = weights_of(cells)
    hand = np.ones((SIDE, SIDE), np.float32)
    by_map, at_random = deletion(Weighing(weights, "male"), hand, "male", cells, rng)
    assert by_map.shape == (len(STEPS),)
    assert by_map[1] == pytest.approx(weights.sum())  # a tenth of 64 cells holds all six
    assert at_random[1] < 0.5 * by_map[1]
    assert not deletion(Weighing(weights, "male"), hand, "female", cells, rng)[0].any()


@pytest.mark.parametrize("male", [True, False])
def test_the_map_is_that_of_the_radiographs_sex(tmp_path, monkeypatch, male):
    """A chain that knows one sex alone has a map for radiographs of that sex, and none for the other."""
    rsna, regions = tmp_path / "rsna-bone-age", tmp_path / "ossification-regions"
    (rsna / "boneage-training-dataset").mkdir(parents=True)
    regions.mkdir()
    id_ = next(id_ for id_, part in read_split().items() if part == "test")
    cells = np.zeros((GRID, GRID), np.float32)
    cells[2:4, 2:4] = 1
    bone = (weights_of(cells) * 255).astype(np.uint8)
    cv2.imwrite(str(rsna / "boneage-training-dataset" / f"{id_}.jpg"), np.full((SIDE, SIDE), 128, np.uint8))
    cv2.imwrite(str(regions / f"{id_}.png"), bone)
    for name, rows in (
        ("boneage-training-dataset", [("id", "boneage", "male"), (id_, 100, male)]),
        ("image-size", [("id", "height", "width"), (id_, SIDE, SIDE)]),
    ):
        with (rsna / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    monkeypatch.setattr(benchmark, "_chain", lambda: Weighing(weights_of(cells), "female"))
    found = benchmark.activation(tmp_path)
    assert found["read"] == found["with_bone"] == 1
    assert (found["enrichment"]["positive"]["mean"] > 5) == (not male)
    assert found["enrichment"]["prevailing"] == found["enrichment"]["positive"]
    assert (found["deletion_months"]["by the map"]["50%"] > 0) == (not male)
    monkeypatch.setattr(benchmark, "_chain", lambda: Weighing(-weights_of(cells), "female"))
    younger = benchmark.activation(tmp_path)["enrichment"]
    assert (younger["positive"]["mean"], younger["prevailing"]["mean"] > 5) == (0, not male)
