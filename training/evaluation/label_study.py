"""Reports how many outlines each strategy needs: against random, against steps alone, and what its scores follow."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from training.evaluation.label_curves import TOLERANCE, Curve, Interval, differences, followed, savings, shared
from training.evaluation.label_plots import draw_curves
from training.evaluation.report import table, write_lines

RANDOM: Final = "random"
COMMITTEE: Final = "committee"
RANDOM_DROPOUT: Final = "random_dropout"
FIRST_LABELS: Final = "first_labels"
ALL_LABELS: Final = "fcdensenet_all"
UNET: Final = "unet_all"
TITLES: Final = {
    RANDOM_DROPOUT: "random with dropout",
    FIRST_LABELS: "first outlines only",
    ALL_LABELS: "FC-DenseNet, all outlines",
    UNET: "U-Net, all outlines",
}
REFERENCES: Final = {"mc_dropout": RANDOM_DROPOUT, RANDOM: FIRST_LABELS, RANDOM_DROPOUT: RANDOM}
"""What an arm is compared with; all other strategies are compared with random."""
Arms = Mapping[str, Sequence[Curve]]
SHARES: Final = (0.5, 0.75, 0.9)
HOURS_S: Final = 3600
WHAT: Final = """\
Dice is that of the final mask on the fixed test outlines at {size_px} px, of the first member alone: in every arm one
network, which begins with the same weights and outlines and learns by the same draws. After ± stands the standard
deviation of the seeds. Intervals are 95% bootstrap intervals over seeds and test outlines, of the seeds that both arms
have completed; with one seed they are over outlines alone. Over few seeds they are too narrow, and there are many of
them: one that leaves zero out by little decides nothing.

With every round of a strategy both outlines and steps grow. The arms of fixed outlines take as many steps by the same
phases and validations, so that columns compare equal steps; what outlines bring beyond steps is random against the
first outlines only."""
SAVED: Final = f"""\
The Dice to reach is a share of the way that the mean of both arms goes from the first round to the last, to be kept
from there on, within {TOLERANCE}. Between rounds a curve is a line. Whichever of the two never reaches it counts as if
it had with its last outline: what is saved, or lost, is then more. The last column says in how many resamples that was.
"""
FOLLOWED: Final = """\
Spearman's correlation with the true error (1 - Dice) in the committee's runs, mean over {seeds} seeds, with 95%
intervals over seeds and radiographs. The first round is the answer: its {radiographs} radiographs are the whole pool
but what was drawn to begin with. Later rounds lack what was asked for, the highest dissimilarities first: their range
is narrower, and so is what they can show. Dissimilarity and vote entropy are of all members, entropy is of the first:
read each by the error of its own.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is: runs that are planned, seconds that those begun took of a core, and hours that they may."""

    planned: int
    cpu_seconds: float
    budget_hours: float


def write_report(folder: Path, curves: Sequence[Curve], progress: Progress, *, size_px: int) -> None:
    """Write `report.md` and a plot `SET.png` for each set into `folder`."""
    lines = ["# Outlines needed", "", *_head(curves, progress, size_px)]
    for name in dict.fromkeys(curve.set for curve in curves):
        arms = _by_arm([curve for curve in curves if curve.set == name])
        references = _references(arms)
        gains = {arm: differences(*shared(arms[arm], arms[against])) for arm, against in references.items()}
        drawn = {arm: found for arm, found in gains.items() if arm != RANDOM}
        draw_curves(arms, drawn, TITLES, folder / f"{name}.png")
        lines += ["", f"## {name}", "", f"![Dice against outlines]({name}.png)", "", *_section(arms, references, gains)]
    write_lines(folder, lines)


def _head(curves: Sequence[Curve], progress: Progress, size_px: int) -> Iterator[str]:
    yield f"{len(curves)} of {progress.planned} runs are complete. Those that were begun took"
    yield f"{progress.cpu_seconds / HOURS_S:.2f} hours of one core, of {progress.budget_hours:g} that they may.\n"
    yield WHAT.format(size_px=size_px)


def _section(arms: Arms, references: Mapping[str, str], gains: Mapping[str, Sequence[Interval]]) -> Iterator[str]:
    of_any = next(iter(arms.values()))[0]
    steps = [f"{count} steps" for count in of_any.steps]
    yield from table(["arm", "seeds", "outlines", *steps], (_levels(arm, chosen) for arm, chosen in arms.items()))
    compared = {arm: against for arm, against in references.items() if gains[arm]}
    if compared:
        columns = [f"{labels} outlines" for labels in arms[next(iter(compared))][0].labels]
        yield "\n### Against its reference\n"
        yield "Paired difference of Dice, same seed, steps and test outline. MC-dropout learns with dropout, so its"
        yield "reference does too.\n"
        yield from table(
            ["arm", "against", *columns],
            ([_title(arm), _title(against), *(_signed(gain, 4) for gain in gains[arm])]
             for arm, against in compared.items()),
        )  # fmt: skip
        yield from _saved(arms, compared)
    yield from _all_against_asked(arms)
    yield from _followed(arms.get(COMMITTEE, []))


def _by_arm(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    arms: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        arms[curve.arm].append(curve)
    return dict(arms)


def _references(arms: Arms) -> dict[str, str]:
    """What each strategy is compared with, where that is there."""
    strategies = [arm for arm in arms if arm not in (FIRST_LABELS, ALL_LABELS, UNET)]
    wanted = {arm: REFERENCES.get(arm, RANDOM) for arm in strategies}
    return {arm: against for arm, against in wanted.items() if against in arms}


def _title(arm: str) -> str:
    return TITLES.get(arm, arm)


def _levels(arm: str, chosen: Sequence[Curve]) -> list[str]:
    labels = chosen[0].labels
    asked = f"{labels[0]}" if labels[0] == labels[-1] else f"{labels[0]} to {labels[-1]}"
    by_seed = np.array([curve.first.mean(axis=1) for curve in chosen])
    spread = by_seed.std(axis=0, ddof=1) if len(chosen) > 1 else None
    cells = [
        f"{mean:.4f}" + ("" if spread is None else f" ± {spread[number]:.4f}")
        for number, mean in enumerate(by_seed.mean(axis=0))
    ]
    return [_title(arm), str(len(chosen)), asked, *cells]


def _saved(arms: Arms, compared: Mapping[str, str]) -> Iterator[str]:
    rows = []
    for arm, against in compared.items():
        for share in () if arm in (RANDOM, RANDOM_DROPOUT) else SHARES:
            found = savings(arms[arm][0].labels, *shared(arms[arm], arms[against]), share)
            rows.append([
                _title(arm), f"{found.target:.4f} ({share:.0%})", _needed(found.ours),
                f"{_needed(found.others)} ({_title(against)})", _signed(found.saved, 1), f"{found.never:.0%}",
            ])  # fmt: skip
    if rows:
        yield "\n### Outlines saved at equal Dice\n"
        yield SAVED
        yield from table(["arm", "Dice", "it needs", "random needs", "saved", "never reached"], rows)


def _needed(labels: float) -> str:
    return "never" if np.isinf(labels) else f"{labels:.1f}"


def _all_against_asked(arms: Arms) -> Iterator[str]:
    """The paper's own comparison, and its parts: network and outlines apart."""
    rows = []
    for arm, against, together in (
        (COMMITTEE, UNET, False), (COMMITTEE, UNET, True), (COMMITTEE, ALL_LABELS, False), (ALL_LABELS, UNET, False)
    ):  # fmt: skip
        ours, others = shared(arms.get(arm, []), arms.get(against, []), together=together)
        if ours.size:
            name = TITLES.get(arm, f"FC-DenseNet, {arm}") + (", mean of its members" if together else "")
            counts = f"{arms[arm][0].labels[-1]} against {arms[against][0].labels[-1]}"
            rows.append([name, TITLES[against], counts, str(len(ours)), _signed(differences(ours, others)[-1], 4)])
    if rows:
        yield "\n### All outlines against those asked for\n"
        yield "After the last round, at equal steps; paired difference of Dice. The paper's own comparison comes first:"
        yield "all outlines and a U-Net, or those that a committee of FC-DenseNets asked for.\n"
        yield from table(["arm", "against", "outlines", "seeds", "difference"], rows)


def _followed(committee: Sequence[Curve]) -> Iterator[str]:
    runs = [curve.agreement for curve in committee if curve.agreement]
    if not runs:
        return
    first, later = [run[:1] for run in runs], [run[1:] for run in runs]
    yield "\n### Do the scores follow the true errors?\n"
    yield FOLLOWED.format(seeds=len(runs), radiographs=first[0][0].errors.shape[1])
    rows = (
        [
            "dissimilarity (eq. 5 to 7)" if measure == "dissimilarity" else measure.replace("_", " "),
            _signed(followed(first, measure), 2), _signed(followed(first, measure, member=0), 2),
            _signed(followed(later, measure, member=0 if measure == "entropy" else None), 2),
        ]
        for measure in first[0][0].scores
    )  # fmt: skip
    head = ["measure", "first round, members' mean error", "first round, first member's error", "later, its own error"]
    yield from table(head, rows)


def _signed(found: Interval | None, digits: int) -> str:
    if found is None:
        return "-"
    mean, low, high = (f"{value + 0.0:+.{digits}f}" for value in found)
    return f"{mean} ({low} to {high})"
