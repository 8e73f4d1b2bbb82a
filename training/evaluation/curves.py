"""Draws how a run went: its loss, its learning rate and its figures on the validation part, over images seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.run.journal import Value
from training.run.results import write_figure

mpl.use("Agg")
PREFIX: Final = "validation_"
TRAINING: Final = frozenset({"loss", "reconstruction", "adversarial", "discriminator", "learning_rate"})
SMOOTHED: Final = 9
PANEL_INCHES: Final = (6.0, 2.6)


def draw_curves(entries: Sequence[dict[str, Value]], path: Path, *, images_a_step: int) -> None:
    """One panel a figure: what was logged each time, and a running mean where there are many; stages are shaded."""
    names = [name for name in dict.fromkeys(key for entry in entries for key in entry) if _drawn(name)]
    figure = Figure((PANEL_INCHES[0], PANEL_INCHES[1] * len(names)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(names), sharex=True))
    for panel, name in zip(axes, names, strict=True):
        points = [(float(entry["step"] or 0), float(entry[name] or 0)) for entry in entries if name in entry]
        x, y = np.array(points).T
        many = len(y) > 4 * SMOOTHED
        panel.plot(x * images_a_step, y, lw=0.5 if many else 1.5, marker=None if many else ".", alpha=0.6)
        if many:
            middle = np.convolve(y, np.ones(SMOOTHED) / SMOOTHED, "valid")
            panel.plot(x[SMOOTHED // 2 : -(SMOOTHED // 2)] * images_a_step, middle, lw=1.8)
        panel.set_ylabel(name.removeprefix(PREFIX).replace("_", " "))
        panel.set_title("validation part" if name.startswith(PREFIX) else "training", loc="left", fontsize=8)
        panel.grid(alpha=0.3)
        _shade_stages(panel, entries, images_a_step)
    axes[-1].set_xlabel("images seen")
    write_figure(path, figure, dpi=110)


def _drawn(name: str) -> bool:
    return name in TRAINING or name.startswith(PREFIX)


def _shade_stages(panel: mpl.axes.Axes, entries: Sequence[dict[str, Value]], images_a_step: int) -> None:
    """Every second stage on a grey ground."""
    stages: dict[float, list[float]] = {}
    for entry in entries:
        if "stage" in entry:
            stages.setdefault(float(entry["stage"] or 0), []).append(float(entry["step"] or 0) * images_a_step)
    for stage, places in stages.items():
        if stage % 2:
            panel.axvspan(min(places), max(places), color="0.92", zorder=0)
