"""Reports a study of schedules: figures with paired intervals, what each stage did, and the paper's figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from training.evaluation.literature import TABLE_1, TABLE_2
from training.evaluation.report import table, write_lines
from training.evaluation.seeds import interval, strict_interval
from training.evaluation.study import Errors, Key, Outcome, Plan, both, differences, errors_of, matrix, stages_of
from training.evaluation.study_plots import draw_losses, draw_maes, draw_validations

PACED: Final = "paced"
SEX: Final = "sex"
HOURS_S: Final = 3600
FEWEST_SEEDS: Final = 3


def write_report(folder: Path, outcomes: Sequence[Outcome], plan: Plan) -> None:
    """Write `report.md`, `loss.png` (Figure 11), `mae.png` (Figure 12) and `validation.png` into `folder`."""
    draw_losses(outcomes, folder / "loss.png", images_a_step=plan.images_a_step)
    draw_maes(outcomes, folder / "mae.png")
    draw_validations(outcomes, folder / "validation.png", images_a_step=plan.images_a_step)
    write_lines(folder, _report(outcomes, plan))


def _report(outcomes: Sequence[Outcome], plan: Plan) -> Iterator[str]:
    errors = errors_of(outcomes)
    arms = list(dict.fromkeys(outcome.arm.name for outcome in outcomes))
    cohorts = list(dict.fromkeys(outcome.cohort for outcome in outcomes))
    hours = sum(outcome.cpu_seconds for outcome in outcomes) / HOURS_S
    yield "# Schedules of transfer learning"
    yield f"\n{len(outcomes)} of {plan.runs} runs are complete, each of {plan.images_a_run} images seen; they took"
    yield f"{hours:.1f} hours of one core, of {plan.budget_hours:g} that they may."
    yield f"MAE in months on the {plan.part} part, on radiographs by which nothing"
    yield "was chosen, with 95% bootstrap intervals over seeds and radiographs; then the MAE of each seed. Intervals"
    yield f"over fewer than {FEWEST_SEEDS} seeds say little about others; over {FEWEST_SEEDS} they are a bit narrow.\n"
    yield from table(["arm", *cohorts], ([arm, *(_mae(errors.get((arm, c))) for c in cohorts)] for arm in arms))
    yield "\n![MAE by arm and cohort](mae.png)\n\n![Training loss](loss.png)\n\n![Validation](validation.png)\n"
    if PACED in arms:
        yield from _against_paced(errors, arms, cohorts)
    yield from _stages(outcomes, plan)
    yield from _sexes(errors, arms)
    yield from _beside_the_paper(outcomes, errors, plan)


def _mae(errors: Errors | None) -> str:
    if errors is None:
        return "-"
    values = matrix(errors)
    mean, low, high = interval(values)
    return f"{mean:.2f} ({low:.2f} to {high:.2f}); {', '.join(f'{of_one:.2f}' for of_one in values.mean(axis=1))}"


def _difference(ours: Errors | None, others: Errors | None) -> str:
    values = differences(ours or {}, others or {})
    if not values.size:
        return "-"
    mean, low, high = interval(values)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _against_paced(errors: dict[Key, Errors], arms: Sequence[str], cohorts: Sequence[str]) -> Iterator[str]:
    others = [arm for arm in arms if arm != PACED]
    yield f"## {PACED} against each other arm\n"
    yield "Difference in months, paired by seed and radiograph; below zero the paced schedule is better.\n"
    rows = ([arm, *(_difference(errors.get((PACED, c)), errors.get((arm, c))) for c in cohorts)] for arm in others)
    yield from table(["arm", *cohorts], rows)
    yield "\nOf each line, all that is said at once holds with some 95%: Bonferroni, by Student's intervals, which are"
    yield f"wider than those above. Arms that share fewer than {FEWEST_SEEDS} seeds with the paced schedule are not"
    yield "judged. A few seeds of one cohort seldom decide; the mean of the differences over several cohorts, each with"
    yield "networks of its own, does more often:\n"
    there = [cohort for cohort in cohorts if (PACED, cohort) in errors]
    if len(there) > 1:
        yield _verdict(errors, others, there, f"over {', '.join(there)}")
    yield from (_verdict(errors, others, [cohort], cohort) for cohort in there)


def _verdict(errors: dict[Key, Errors], others: Sequence[str], cohorts: Sequence[str], said_of: str) -> str:
    """Which arms are surely better or worse than the paced one."""
    parts: dict[str, list[str]] = {"beats": [], "loses to": [], "cannot be told from": [], "is not judged against": []}
    for arm in others:
        groups = [differences(errors[PACED, cohort], errors.get((arm, cohort), {})) for cohort in cohorts]
        if min(map(len, groups)) < FEWEST_SEEDS:
            parts["is not judged against"].append(arm)
        else:
            low, high = strict_interval(*groups, level=1 - 0.05 / len(others))
            told = "beats" if high < 0 else "loses to" if low > 0 else "cannot be told from"
            parts[told].append(f"{arm} ({low:+.2f} to {high:+.2f})")
    said = "; ".join(f"{word} {', '.join(names)}" for word, names in parts.items() if names)
    return f"- {said_of}: it {said or 'has nothing to be compared with'}."


def _stages(outcomes: Sequence[Outcome], plan: Plan) -> Iterator[str]:
    """How long each stage of a schedule lasted and what it reached: where a schedule wins or loses."""
    rows = []
    for arm in dict.fromkeys(outcome.arm.name for outcome in outcomes):
        for cohort in dict.fromkeys(outcome.cohort for outcome in outcomes):
            runs = [stages_of(o) for o in outcomes if (o.arm.name, o.cohort) == (arm, cohort)]
            if not runs or len(runs[0]) == 1:
                continue
            images, reached = np.mean(runs, axis=0).T
            cells = zip(images * plan.images_a_step, reached, strict=True)
            rows.append([arm, cohort, "; ".join(f"{seen:.0f} to {mae:.1f}" for seen, mae in cells)])
    if rows:
        yield "\n## What each stage of a schedule reached\n"
        yield "Images seen in each stage, and the best MAE of the validation part by its end, months; means of seeds."
        yield "A stage that stops early leaves its images to the next.\n"
        yield from table(["arm", "cohort", "stages"], rows)


def _sexes(errors: dict[Key, Errors], arms: Sequence[str]) -> Iterator[str]:
    """One network without the sex, one with it, and two of their own, on the same radiographs."""
    rows = []
    for arm in arms:
        if all((arm, cohort) in errors for cohort in ("all", "male", "female", SEX)):
            own = both(errors[arm, "male"], errors[arm, "female"])
            rows.append([arm, *(_difference(other, errors[arm, SEX]) for other in (own, errors[arm, "all"]))])
    if rows:
        yield "\n## One network with the sex against two of their own, and against one without\n"
        yield "Paired difference in months; above zero the network with the sex is better. Two networks of their own"
        yield "have seen twice as many images.\n"
        yield from table(["arm", "two of their own", "without the sex"], rows)


def _beside_the_paper(outcomes: Sequence[Outcome], errors: dict[Key, Errors], plan: Plan) -> Iterator[str]:
    """The paper's Tables 1 and 2 with the paced schedule of this study as a row of its own."""
    trained_on = {o.cohort: o.trained_on for o in outcomes if o.arm.name == PACED}
    yield "\n## Beside the paper's Tables 1 and 2\n"
    yield "Sets, labels and sizes of image differ: these figures stand beside each other, and rank nothing. A run"
    yield "here is a fraction of an epoch; what a whole training reaches is in the evaluation of the releases.\n"
    rows = [list(row) for row in TABLE_1]
    for cohort, count in trained_on.items():
        mae = matrix(errors[PACED, cohort]).mean()
        rows.append([f"this study, {cohort}", PACED, f"{count:,}", f"{mae:.2f}", f"{plan.images_a_run / count:.2f}"])
    yield from table(["method", "what it is", "images", "MAE, months", "epochs"], rows)
    board = ", ".join(f"{mae:.3f}" for mae in TABLE_2)
    yield f"\nLeader board of the RSNA challenge, ranks 1 to {len(TABLE_2)}: {board}; the paper: 5.991 (M), 6.263 (F)."
