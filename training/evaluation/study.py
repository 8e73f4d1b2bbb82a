"""Reports a study of transfer learning: figures with paired intervals, and plots like the paper's Figures 11 and 12."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from services.core.domain.metrics import bootstrap_interval
from training.run.journal import Value, read_journal

mpl.use("Agg")
PACED: Final = "paced"
SMOOTHED: Final = 7
ERRORS: Final = "errors.npz"
"""What a complete run leaves: `ids` (N,), how far it reads them too old, `errors` (N,) in months, and `made_with`."""
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared: the column of prepared images, with CLAHE or without, and the schedule."""

    name: str
    images: str
    schedule: str
    clahe: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One complete run: its radiographs' ids (N,) and absolute errors (N,) in months, and its journal."""

    arm: Arm
    cohort: str
    seed: int
    ids: NDArray[np.str_]
    errors: NDArray[np.float64]
    journal: list[dict[str, Value]]

    @classmethod
    def read(cls, folder: Path, arm: Arm, cohort: str, seed: int) -> "Outcome":
        """From the folder of the run."""
        stored = np.load(folder / ERRORS)
        errors = np.abs(stored["errors"].astype(np.float64))
        return cls(arm, cohort, seed, stored["ids"], errors, read_journal(folder))


def mean_errors(outcomes: Sequence[Outcome]) -> dict[Key, dict[str, float]]:
    """Absolute error of each radiograph by arm and cohort, averaged over the seeds that are complete."""
    by_id: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for name, error in zip(outcome.ids, outcome.errors, strict=True):
            by_id[outcome.arm.name, outcome.cohort][str(name)].append(float(error))
    return {key: {name: float(np.mean(values)) for name, values in found.items()} for key, found in by_id.items()}


def paired_difference(ours: dict[str, float], others: dict[str, float]) -> tuple[float, float, float]:
    """Mean of ours minus others over the radiographs that both read, with a 95% bootstrap interval, in months."""
    shared = sorted(ours.keys() & others.keys())
    differences = np.array([ours[name] - others[name] for name in shared])
    low, high = bootstrap_interval(differences, lambda values: float(values.mean()))
    return float(differences.mean()), low, high


def write_report(
    folder: Path, outcomes: Sequence[Outcome], *, planned: int, images_a_run: int, images_a_step: int, part: str
) -> None:
    """Write `report.md`, `loss.png` (Figure 11) and `mae.png` (Figure 12) into `folder`."""
    draw_losses(outcomes, folder / "loss.png", images_a_step=images_a_step)
    draw_maes(outcomes, folder / "mae.png")
    text = "\n".join(_report(outcomes, planned=planned, images_a_run=images_a_run, part=part))
    partial = folder / "report.partial"
    partial.write_text(text + "\n")
    partial.replace(folder / "report.md")


def _report(outcomes: Sequence[Outcome], *, planned: int, images_a_run: int, part: str) -> Iterator[str]:
    errors = mean_errors(outcomes)
    arms = list(dict.fromkeys(outcome.arm.name for outcome in outcomes))
    cohorts = list(dict.fromkeys(outcome.cohort for outcome in outcomes))
    yield "# Schedules of transfer learning"
    yield f"\n{len(outcomes)} of {planned} runs are complete, each of {images_a_run} images seen. MAE in months on the"
    yield f"{part} part, by which nothing was chosen, averaged over seeds; 95% bootstrap intervals over radiographs.\n"
    yield from _table(["arm", *cohorts], ([arm, *(_mae(errors.get((arm, c))) for c in cohorts)] for arm in arms))
    yield "\n![MAE by arm and cohort](mae.png)\n\n![Training loss](loss.png)\n"
    if PACED in arms:
        yield f"## {PACED} against each other arm\n"
        yield "Paired difference in months; below zero the paced schedule is better.\n"
        others = [arm for arm in arms if arm != PACED]
        yield from _table(["arm", *cohorts], ([arm, *(_versus(errors, arm, c) for c in cohorts)] for arm in others))
        yield ""
        yield from (_verdict(errors, others, cohort) for cohort in cohorts if (PACED, cohort) in errors)
    yield from _sexes(errors, arms)


def _table(head: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _mae(errors: dict[str, float] | None) -> str:
    if errors is None:
        return "-"
    values = np.array(list(errors.values()))
    low, high = bootstrap_interval(values, lambda v: float(v.mean()))
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def _versus(errors: dict[Key, dict[str, float]], arm: str, cohort: str) -> str:
    if (arm, cohort) not in errors or (PACED, cohort) not in errors:
        return "-"
    mean, low, high = paired_difference(errors[PACED, cohort], errors[arm, cohort])
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _verdict(errors: dict[Key, dict[str, float]], others: Sequence[str], cohort: str) -> str:
    """Which arms are surely better or worse than the paced one."""
    intervals = {
        arm: paired_difference(errors[PACED, cohort], errors[arm, cohort]) for arm in others if (arm, cohort) in errors
    }
    better = [arm for arm, (_, _, high) in intervals.items() if high < 0]
    worse = [arm for arm, (_, low, _) in intervals.items() if low > 0]
    open_ = [arm for arm in intervals if arm not in better and arm not in worse]
    parts = [("beats", better), ("loses to", worse), ("cannot be told from", open_)]
    return f"- {cohort}: it " + "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names) + "."


def _sexes(errors: dict[Key, dict[str, float]], arms: Sequence[str]) -> Iterator[str]:
    """One network without the sex, one with it, and two of their own, on the same radiographs."""
    rows = []
    for arm in arms:
        if any((arm, cohort) not in errors for cohort in ("all", "male", "female", "sex")):
            continue
        own = errors[arm, "male"] | errors[arm, "female"]
        cells = [paired_difference(other, errors[arm, "sex"]) for other in (own, errors[arm, "all"])]
        rows.append([arm, *(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})" for mean, low, high in cells)])
    if rows:
        yield "\n## One network with the sex against two of their own, and against one without\n"
        yield "Paired difference in months; above zero the network with the sex is better.\n"
        yield from _table(["arm", "two of their own", "without the sex"], iter(rows))


def draw_maes(outcomes: Sequence[Outcome], path: Path) -> None:
    """MAE by cohort and arm with 95% intervals, a dot for each seed (the paper's Figure 12)."""
    errors = mean_errors(outcomes)
    arms = list(dict.fromkeys(outcome.arm.name for outcome in outcomes))
    cohorts = list(dict.fromkeys(outcome.cohort for outcome in outcomes))
    figure = Figure((1.5 + 2.4 * len(cohorts), 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(arms)
    for index, arm in enumerate(arms):
        for place, cohort in enumerate(cohorts):
            if (arm, cohort) not in errors:
                continue
            values = np.array(list(errors[arm, cohort].values()))
            low, high = bootstrap_interval(values, lambda v: float(v.mean()))
            x, mean = place + (index - (len(arms) - 1) / 2) * width, values.mean()
            bar = axes.bar(x, mean, width * 0.92, color=f"C{index}", label=arm if not place else None)
            axes.errorbar(x, mean, [[mean - low], [high - mean]], color="0.2", lw=1, capsize=2)
            seeds = [o.errors.mean() for o in outcomes if (o.arm.name, o.cohort) == (arm, cohort)]
            axes.plot([x] * len(seeds), seeds, ".", color="0.2", ms=3)
            axes.bar_label(bar, fmt="%.1f", fontsize=6, padding=6)
    axes.set_xticks(range(len(cohorts)), cohorts)
    axes.set_ylabel("MAE, months")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    figure.savefig(path, dpi=130)


def draw_losses(outcomes: Sequence[Outcome], path: Path, *, images_a_step: int) -> None:
    """Training loss over images seen, one panel a cohort, smoothed and averaged over seeds (the paper's Figure 11)."""
    cohorts = list(dict.fromkeys(outcome.cohort for outcome in outcomes))
    arms = list(dict.fromkeys(outcome.arm.name for outcome in outcomes))
    figure = Figure((3.4 * len(cohorts), 3.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(cohorts), sharey=True))
    for panel, cohort in zip(axes, cohorts, strict=True):
        for index, arm in enumerate(arms):
            chosen = [o for o in outcomes if (o.arm.name, o.cohort) == (arm, cohort)]
            if chosen:
                x, y = _loss(chosen)
                panel.plot(x * images_a_step, y, color=f"C{index}", lw=1.2, label=arm)
        panel.set_title(cohort, fontsize=9)
        panel.set_xlabel("images seen")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("training loss (MAE / 10 months)")
    axes[0].legend(fontsize=6)
    figure.savefig(path, dpi=130)


def _loss(outcomes: Sequence[Outcome]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and their mean loss over seeds, smoothed."""
    by_step: dict[float, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for entry in outcome.journal:
            if "loss" in entry:
                by_step[float(entry["step"] or 0)].append(float(entry["loss"] or 0))
    steps = np.array(sorted(by_step))
    loss = np.array([np.mean(by_step[step]) for step in steps])
    width = min(SMOOTHED, len(loss))
    return steps[width // 2 : len(steps) - (width - 1) // 2], np.convolve(loss, np.ones(width) / width, "valid")
