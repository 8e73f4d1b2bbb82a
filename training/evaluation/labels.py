"""Draws how an outline's Dice grew with the number of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from training.run.results import write_figure

mpl.use("Agg")
CURVES: Final = {
    "dice_members": "members, selection",
    "dice_committee": "committee, selection",
    "dice_test": "committee, test",
}


def draw_labels(rounds: Sequence[dict[str, Any]], path: Path) -> None:
    """Dice against labels, one curve for each set."""
    figure = Figure((6, 3.6), layout="constrained")
    axes = figure.subplots()
    labels = [entry["labels"] for entry in rounds]
    for name, title in CURVES.items():
        axes.plot(labels, [entry[name] for entry in rounds], marker=".", label=title)
    axes.set_xlabel("outlines learnt from")
    axes.set_ylabel("mean Dice")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_figure(path, figure, dpi=110)
