"""Plots of a study of transfer learning, the first two like the paper's Figures 11 and 12."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from training.evaluation.seeds import interval
from training.evaluation.study import Outcome, errors_of, matrix
from training.run.results import write_figure

mpl.use("Agg")
SMOOTHED: Final = 9
LOSS: Final = "loss"
VALIDATION: Final = "validation_mae_months"


def draw_maes(outcomes: Sequence[Outcome], path: Path) -> None:
    """MAE by cohort and arm with 95% intervals, a dot for each seed (the paper's Figure 12)."""
    errors = errors_of(outcomes)
    arms, cohorts = _names(outcomes)
    figure = Figure((1.5 + 2.4 * len(cohorts), 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(arms)
    labelled = set()
    for index, arm in enumerate(arms):
        for place, cohort in enumerate(cohorts):
            if (arm, cohort) not in errors:
                continue
            values = matrix(errors[arm, cohort])
            mean, low, high = interval(values)
            x = place + (index - (len(arms) - 1) / 2) * width
            axes.bar(x, mean, width * 0.92, color=f"C{index}", label=None if arm in labelled else arm)
            axes.errorbar(x, mean, [[mean - low], [high - mean]], color="0.2", lw=1, capsize=2)
            axes.plot([x] * len(values), values.mean(axis=1), ".", color="0.2", ms=3)
            top = max(high, *values.mean(axis=1))
            axes.annotate(f"{mean:.1f}", (x, top), (0, 3), textcoords="offset points", ha="center", fontsize=6)
            labelled.add(arm)
    axes.set_xticks(range(len(cohorts)), cohorts)
    axes.set_ylabel("MAE, months")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    write_figure(path, figure, dpi=130)


def draw_losses(outcomes: Sequence[Outcome], path: Path, *, images_a_step: int) -> None:
    """Training loss over images seen, a running mean over logged batches and seeds (the paper's Figure 11)."""
    _draw_courses(outcomes, path, LOSS, "training loss (MAE / 10 months)", images_a_step, smoothed=SMOOTHED)


def draw_validations(outcomes: Sequence[Outcome], path: Path, *, images_a_step: int) -> None:
    """MAE of the validation part over images seen, the mean of seeds."""
    _draw_courses(outcomes, path, VALIDATION, "MAE of the validation part, months", images_a_step, smoothed=1)


def _draw_courses(
    outcomes: Sequence[Outcome], path: Path, figure_of: str, label: str, images_a_step: int, *, smoothed: int
) -> None:
    """One panel a cohort, one line an arm, on a logarithmic scale."""
    arms, cohorts = _names(outcomes)
    figure = Figure((3.4 * len(cohorts), 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(cohorts), sharey=True))
    for panel, cohort in zip(axes, cohorts, strict=True):
        for index, arm in enumerate(arms):
            chosen = [o for o in outcomes if (o.arm.name, o.cohort) == (arm, cohort)]
            if chosen:
                x, y = _course(chosen, figure_of, smoothed)
                panel.plot(
                    x * images_a_step, y, color=f"C{index}", lw=1.2, label=arm, marker="." if smoothed == 1 else ""
                )
        panel.set(title=cohort, xlabel="images seen", yscale="log")
        panel.grid(alpha=0.3, which="both")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(ScalarFormatter())
        panel.yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel(label)
    lines = {line.get_label(): line for panel in axes for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), fontsize=6, ncols=3, loc="outside lower center")
    write_figure(path, figure, dpi=130)


def _course(
    outcomes: Sequence[Outcome], figure_of: str, smoothed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and their mean over seeds, smoothed."""
    by_step: dict[float, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for entry in outcome.journal:
            if figure_of in entry:
                by_step[float(entry["step"] or 0)].append(float(entry[figure_of] or 0))
    steps = np.array(sorted(by_step))
    values = np.array([np.mean(by_step[step]) for step in steps])
    width = min(smoothed, len(values))
    return steps[width // 2 : len(steps) - (width - 1) // 2], np.convolve(values, np.ones(width) / width, "valid")


def _names(outcomes: Sequence[Outcome]) -> tuple[list[str], list[str]]:
    """Arms and cohorts, in the order of the runs."""
    return list(dict.fromkeys(o.arm.name for o in outcomes)), list(dict.fromkeys(o.cohort for o in outcomes))
