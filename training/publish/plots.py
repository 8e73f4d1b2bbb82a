"""Draws how well a release reads and how often what it is sure of holds, for people to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.run.results import write_figure

mpl.use("Agg")
PANEL_INCHES: Final = 4.6
YEARS: Final = 24
RELIABILITY_BINS: Final = 10
APART: Final = 0.2

Figures = Mapping[str, Any]


def draw_ages(
    ages: NDArray[np.floating],
    reference: NDArray[np.floating],
    figures: Mapping[str, Figures],
    path: Path,
    *,
    release: str,
) -> None:
    """Predicted against reference ages (N,) in months of the test part, MAE and coverage by band.

    `figures` are those of the cards by part; that of the test part has the coverage. Raises StoreUnwritableError.
    """
    figure, (scatter, errors, held) = _panels(3, release)
    limit = float(max(ages.max(), reference.max())) + 6
    scatter.plot([0, limit], [0, limit], color="0.3", lw=0.8)
    scatter.scatter(reference, ages, s=6, alpha=0.4, lw=0)
    scatter.set(xlim=(0, limit), ylim=(0, limit), aspect="equal", xlabel="reference age, months",
                ylabel="predicted age, months", title=f"test part: MAE {figures['test']['mae_months']:.2f} months",
                xticks=np.arange(0, limit, YEARS), yticks=np.arange(0, limit, YEARS))  # fmt: skip
    parts = {part: figures[part]["by_age_band"] for part in figures}
    _by_band(errors, parts, "mae_months", "mae_months_ci95")
    errors.set(title="MAE by band of reference age", ylabel="months", ylim=(0, None))
    coverage = figures["test"]["coverage"]
    kinds = {"predicted age": coverage["by_predicted_age_band"], "reference age": coverage["by_age_band"]}
    _by_band(held, kinds, "coverage", "coverage_ci95")
    held.axhline(coverage["level"], color="0.3", lw=0.8)
    held.set(title=f"test part: {coverage['coverage']:.1%} of intervals hold the age", ylabel="share that holds it")
    write_figure(path, figure, dpi=110)


def draw_classes(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.intp],
    names: Sequence[str],
    accuracy: float,
    path: Path,
    *,
    release: str,
) -> None:
    """Of the test part: how many of each class were taken for which, and how often a probability (N, n) comes true.

    Raises StoreUnwritableError.
    """
    figure, (confusion, reliability) = _panels(2, release)
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    confusion.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        confusion.text(column, row, str(count), ha="center", va="center",
                       color="white" if 2 * count > counts.max() else "black")  # fmt: skip
    places = range(len(names))
    confusion.set(xlabel="likeliest class", ylabel="true class", title=f"test part: accuracy {accuracy:.3f}")
    confusion.set_xticks(places, names)
    confusion.set_yticks(places, names)
    given, true = probabilities.ravel(), (labels[:, None] == np.arange(len(names))).ravel()
    bins = np.minimum((given * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    filled = [b for b in range(RELIABILITY_BINS) if (bins == b).any()]
    reliability.plot([0, 1], [0, 1], color="0.3", lw=0.8)
    reliability.plot([given[bins == b].mean() for b in filled], [true[bins == b].mean() for b in filled], marker="o")
    reliability.set(xlabel="probability that is stated", ylabel="share that is of the class", aspect="equal",
                    title="test part: calibration of all classes")  # fmt: skip
    write_figure(path, figure, dpi=110)


def _by_band(axes: Axes, groups: Mapping[str, Sequence[Figures]], value: str, interval: str) -> None:
    """Points with their 95% intervals by band of age, groups side by side; bands of no radiographs stay empty."""
    bands = next(iter(groups.values()))
    for index, (label, entries) in enumerate(groups.items()):
        there = [(place, entry) for place, entry in enumerate(entries) if entry[value] is not None]
        at = np.array([place for place, _ in there], float) + (index - (len(groups) - 1) / 2) * APART
        middle = np.array([entry[value] for _, entry in there])
        low, high = np.array([entry[interval] for _, entry in there]).T
        axes.errorbar(at, middle, [middle - low, high - middle], fmt=".", capsize=2, label=label)
    axes.set_xticks(range(len(bands)), [_named(band) for band in bands])
    axes.set_xlabel("months")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)


def _named(band: Figures) -> str:
    high = band["high_months"]
    return f"{band['low_months']}+" if high is None else f"{band['low_months']} to {high}"


def _panels(count: int, release: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure((PANEL_INCHES * count, PANEL_INCHES), layout="constrained")
    figure.suptitle(f"release {release}")
    return figure, figure.subplots(1, count)
