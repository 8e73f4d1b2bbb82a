"""Draws the study of outlines: Dice against labels and steps, and what each arm gains on its reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.evaluation.label_curves import Curve, Interval
from training.run.results import write_figure

mpl.use("Agg")
APART: Final = 0.6
"""How much of the way from one round to the next the arms of one take, side by side."""


def draw_curves(
    arms: Mapping[str, Sequence[Curve]], gains: Mapping[str, Sequence[Interval]], titles: Mapping[str, str], path: Path
) -> None:
    """By round the first member's mean Dice with its spread over seeds; beside it what strategies gain, if any does.

    Arms that learn the same outlines in all rounds are dashed.
    """
    panels = 2 if any(gains.values()) else 1
    figure = Figure((6 * panels, 5), layout="constrained")
    level, *beside = figure.subplots(1, panels, squeeze=False)[0]
    asking = next((chosen[0].labels for chosen in arms.values() if _asks(chosen)), None)
    steps = next(iter(arms.values()))[0].steps
    places = np.array(asking or steps, float)
    apart = APART * (places[-1] - places[0]) / len(places) / len(arms)
    for index, (arm, chosen) in enumerate(arms.items()):
        at = places + (index - (len(arms) - 1) / 2) * apart
        look: dict[str, Any] = {"color": f"C{index}", "marker": ".", "capsize": 2, "lw": 1.2, "elinewidth": 0.7}
        dice = np.array([curve.first.mean(axis=1) for curve in chosen])
        spread = dice.std(axis=0, ddof=1) if len(chosen) > 1 else None
        level.errorbar(at, dice.mean(axis=0), spread, ls="-" if _asks(chosen) else "--",
                       label=titles.get(arm, arm), **look)  # fmt: skip
        for axes in beside if gains.get(arm) else ():
            mean, low, high = np.array(gains[arm]).T
            axes.errorbar(at, mean, [mean - low, high - mean], label=titles.get(arm, arm), **look)
    level.set_ylabel("Dice on test outlines, one network; mean ± SD of seeds")
    for axes in beside:
        axes.set_ylabel("gain on random (mc_dropout: with dropout), 95% interval")
        axes.axhline(0, color="0.3", lw=0.8)
    ticks = [f"{count} steps" if asking is None else f"{labels:.0f}\n{count}"
             for labels, count in zip(places, steps, strict=True)]  # fmt: skip
    for axes in (level, *beside):
        axes.set_xticks(places, ticks)
        axes.set_xlabel("steps" if asking is None else "outlines asked for by strategies; steps of all")
        axes.grid(alpha=0.3)
    level.legend(fontsize=8, ncols=2)
    write_figure(path, figure, dpi=110)


def _asks(chosen: Sequence[Curve]) -> bool:
    """Whether an arm learns more outlines in every round."""
    return chosen[0].labels[0] != chosen[0].labels[-1]
