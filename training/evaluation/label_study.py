"""Reports how many outlines each strategy needs: Dice against labels, paired with random, what the scores follow."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from services.core.domain.metrics import bootstrap_interval, mean

mpl.use("Agg")
RANDOM: Final = "random"
COMMITTEE: Final = "committee"


@dataclass(frozen=True, slots=True)
class Curve:
    """One complete run: by number of labels the Dice (N,) of the test outlines, and each measure's correlation."""

    set: str
    arm: str
    seed: int
    dice: dict[int, NDArray[np.float64]]
    correlation: dict[int, dict[str, float]]

    @classmethod
    def read(cls, path: Path, set_: str, arm: str, seed: int) -> "Curve":
        """From the result that a run has kept."""
        rounds: list[dict[str, Any]] = json.loads(path.read_text())["rounds"]
        return cls(
            set_, arm, seed,
            {entry["labels"]: np.array(entry["dice"]) for entry in rounds},
            {entry["labels"]: entry["correlation"] for entry in rounds if entry.get("correlation")},
        )  # fmt: skip


def labels_to_reach(dice: dict[int, float], target: float) -> int | None:
    """The least number of labels from which on a curve of mean Dice stays at or above a target; None: never."""
    reached = None
    for labels in sorted(dice, reverse=True):
        if dice[labels] < target:
            break
        reached = labels
    return reached


def paired(ours: Sequence[Curve], others: Sequence[Curve], labels: int) -> NDArray[np.float64]:
    """Ours minus others, of each seed and test outline (seeds * N,), at one number of labels."""
    by_seed = {curve.seed: curve.dice[labels] for curve in others if labels in curve.dice}
    differences = [c.dice[labels] - by_seed[c.seed] for c in ours if labels in c.dice and c.seed in by_seed]
    return np.stack(differences) if differences else np.zeros((0, 0))


def write_report(folder: Path, curves: Sequence[Curve], *, planned: int, size_px: int) -> None:
    """Write `report.md` and a plot `SET.png` for each set into `folder`."""
    sets = list(dict.fromkeys(curve.set for curve in curves))
    head = (
        f"{len(curves)} of {planned} runs are complete. Mean Dice on the fixed test outlines at {size_px} px, of the "
        "final mask; a committee's is the mean of its members', so that every arm counts one network."
    )
    lines = ["# Outlines needed", "", head]
    for name in sets:
        of_set = [curve for curve in curves if curve.set == name]
        draw_curves(of_set, folder / f"{name}.png")
        lines += ["", f"## {name}", "", f"![Dice against labels]({name}.png)", "", *_section(of_set)]
    partial = folder / "report.partial"
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(folder / "report.md")


def _section(curves: Sequence[Curve]) -> Iterator[str]:
    arms = _by_arm(curves)
    strategies = {arm: chosen for arm, chosen in arms.items() if len(chosen[0].dice) > 1}
    counts = sorted({labels for chosen in strategies.values() for curve in chosen for labels in curve.dice})
    yield f"| arm | seeds | {' | '.join(f'{labels} labels' for labels in counts)} |"
    yield "|" + "---|" * (len(counts) + 2)
    for arm, chosen in strategies.items():
        yield f"| {arm} | {len(chosen)} | {' | '.join(_dice(chosen, labels) for labels in counts)} |"
    others = {arm: chosen for arm, chosen in arms.items() if arm not in strategies}
    if others:
        yield "\nWith all labels at once, for as many steps:\n"
        yield "| arm | seeds | labels | Dice |\n|---|---|---|---|"
        for arm, chosen in others.items():
            (labels,) = chosen[0].dice
            yield f"| {arm} | {len(chosen)} | {labels} | {_dice(chosen, labels)} |"
    if RANDOM in strategies:
        yield "\n### Against random\n"
        yield "Paired difference of Dice, same seed and outline, with 95% bootstrap intervals over test outlines.\n"
        yield f"| strategy | {' | '.join(f'{labels} labels' for labels in counts)} |"
        yield "|" + "---|" * (len(counts) + 1)
        for arm, chosen in strategies.items():
            if arm != RANDOM:
                cells = (_difference(paired(chosen, strategies[RANDOM], labels)) for labels in counts)
                yield f"| {arm} | {' | '.join(cells)} |"
        yield "\n" + "\n".join(_savings(strategies, counts))
    yield from _correlations(curves)


def _by_arm(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    arms: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        arms[curve.arm].append(curve)
    return dict(arms)


def _means(curves: Sequence[Curve]) -> dict[int, float]:
    """Mean Dice by labels over the seeds."""
    counts = sorted({labels for curve in curves for labels in curve.dice})
    return {n: float(np.mean([c.dice[n].mean() for c in curves if n in c.dice])) for n in counts}


def _dice(curves: Sequence[Curve], labels: int) -> str:
    values = [float(curve.dice[labels].mean()) for curve in curves if labels in curve.dice]
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _difference(differences: NDArray[np.float64]) -> str:
    if not differences.size:
        return "-"
    by_outline = differences.mean(axis=0)
    low, high = bootstrap_interval(by_outline, mean)
    return f"{by_outline.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def _savings(strategies: dict[str, list[Curve]], counts: Sequence[int]) -> Iterator[str]:
    """How many labels each strategy needs for what random reaches with all of its own."""
    drawn = _means(strategies[RANDOM])
    target = drawn[counts[-1]]
    random_needs = labels_to_reach(drawn, target)
    yield f"Random reaches {target:.4f} with {random_needs} labels. The same Dice takes:\n"
    for arm, chosen in strategies.items():
        if arm != RANDOM:
            needs = labels_to_reach(_means(chosen), target)
            if needs is None or random_needs is None:
                yield f"- {arm}: more than {counts[-1]}"
            else:
                yield f"- {arm}: {needs}, {random_needs - needs} fewer"


def _correlations(curves: Sequence[Curve]) -> Iterator[str]:
    found = [entry for curve in curves if curve.arm == COMMITTEE for entry in curve.correlation.values()]
    if not found:
        return
    yield "\n### Do the scores follow the true errors?\n"
    yield "Spearman's correlation with the members' mean error over what had no outline yet, committee's rounds.\n"
    yield "| measure | mean | least | greatest |\n|---|---|---|---|"
    for measure in found[0]:
        values = np.array([entry[measure] for entry in found])
        name = "dissimilarity (eq. 5 to 7)" if measure == "dissimilarity" else measure.replace("_", " ")
        yield f"| {name} | {np.nanmean(values):+.2f} | {np.nanmin(values):+.2f} | {np.nanmax(values):+.2f} |"


def draw_curves(curves: Sequence[Curve], path: Path) -> None:
    """Mean Dice over labels, one line an arm with its spread over seeds; networks with all labels as dashed lines."""
    figure = Figure((7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (arm, chosen) in enumerate(_by_arm(curves).items()):
        means = _means(chosen)
        if len(means) == 1:
            axes.axhline(next(iter(means.values())), color=f"C{index}", ls="--", lw=1, label=arm)
            continue
        spread = [np.std([c.dice[n].mean() for c in chosen if n in c.dice]) for n in means]
        axes.errorbar(list(means), list(means.values()), spread, color=f"C{index}", marker=".", capsize=2, label=arm)
    axes.set_xlabel("outlines learnt from")
    axes.set_ylabel("mean Dice, test outlines")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=120)
