"""`boneage evaluate`: reads a labelled folder through the whole chain and prints what `evaluate` makes of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from rich.table import Table

from services.cli.class_figures import ClassEvaluation, evaluate_classes
from services.cli.figures import Band, Evaluation, Known, Labelled, evaluate, in_training, named
from services.cli.models import reader_card, repository
from services.cli.reading import Ask, Reading
from services.cli.server import Server
from services.cli.session import Job, reading_all
from services.cli.tables import Label, lookup
from services.cli.terminal import Tally, counted, progress, say, table_console
from services.cli.usage import UsageError
from services.core.domain.contracts import Sex
from services.core.domain.metrics import Figure

Result = TypeVar("Result", Evaluation, ClassEvaluation)
TITLES: Final = {
    "mae_months": "MAE, months",
    "mae_ungated_months": "MAE with the gates off, months",
    "mae_male_months": "MAE, male, months",
    "mae_female_months": "MAE, female, months",
    "rmse_months": "RMSE, months",
    "bias_months": "bias (read less true), months",
    "coverage_90": "coverage of the 90% interval",
}

CLASS_TITLES: Final = {
    "accuracy": "accuracy",
    "auc": "area under the ROC curve, second class",
    "coverage_90": "coverage of the 90% set",
    "classes_in_set": "classes in the 90% set, mean",
}


async def measure(
    chosen: Sequence[Labelled[Label]],
    sizes: Mapping[str, tuple[int, int]] | None,
    sex: Sex | None,
    server: Server,
    *,
    as_json: bool,
) -> int:
    """Read all of `chosen`, warn of what makes the figures doubtful, print them; exit code 1 if none was answered."""

    def check(reading: Reading) -> None:
        if reading.classes:
            raise UsageError("the release tells classes apart: name the column of the labels with --label-column")

    asks = [Ask(sex=sex or item.label.sex, ungated=True) for item in chosen]
    readings = await _read(chosen, asks, sizes, server, check)
    result = evaluate(readings, [item.label for item in chosen])
    return _print(result, table_of, chosen, readings, as_json=as_json)


async def measure_classes(
    chosen: Sequence[Labelled[str]], sizes: Mapping[str, tuple[int, int]] | None, server: Server, *, as_json: bool
) -> int:
    """As `measure`, for a release that tells classes apart."""
    labels = {item.label for item in chosen}

    def check(reading: Reading) -> None:
        if reading.age_months is not None:
            raise UsageError("the release reads ages: leave --label-column out")
        names = [c.name for c in reading.classes]
        if names and (strange := sorted(labels - set(names))):
            raise UsageError(f"{strange[0]!r} is none of the release's classes {', '.join(names)}")

    readings = await _read(chosen, [Ask()] * len(chosen), sizes, server, check)
    result = evaluate_classes(readings, [item.label for item in chosen])
    return _print(result, table_of_classes, chosen, readings, as_json=as_json)


def table_of_classes(result: ClassEvaluation) -> Table:
    """All figures with their 95% intervals."""
    table = Table("figure", "n", "value", "95% interval", title=f"release {result.release or 'unknown'}")
    for name, count in (("images", result.n_total), ("answered", result.n), ("failed", result.failed),
                        ("abstained", result.abstained)):  # fmt: skip
        table.add_row(name, str(count), "", "")
    for name, value in result.figures.items():
        table.add_row(CLASS_TITLES[name], str(value.n), *_cells(value, "{:.3f}"))
    for name, count in result.by_class.items():
        table.add_row(f"of class {name}", str(count), "", "")
    return table


def warn_of_sizes(jobs: Sequence[Job], sizes: Mapping[str, tuple[int, int]] | None) -> None:
    """Say which files a table of sizes does not have: they are read with the aspect that they are stored with."""
    missing = [job.file.id for job in jobs if job.true_size is None]
    if sizes is not None and missing:
        say(f"warning: without a size in the table, read as stored: {counted(len(missing), 'image')}: {named(missing)}")


def table_of(result: Evaluation) -> Table:
    """All figures with their 95% intervals; where it is how often intervals hold, also how wide these are."""
    title = f"release {result.release or 'unknown'}"
    table = Table("figure", "n", "value", "95% interval", "median width, months", title=title)
    table.add_row("images", str(result.n_total))
    table.add_row("answered", str(result.n))
    table.add_row("failed", str(result.failed))
    table.add_row("abstained", str(result.n_total), *_cells(result.abstained, "{:.0f}"))
    for name, value in result.figures.items():
        if name != "coverage_90":
            table.add_row(TITLES[name], str(value.n), *_cells(value, "{:.2f}"))
    for band in result.bands:
        mae = band.mae_months
        table.add_row(f"MAE, months, true age {_ages(band)}", str(mae.n), *_cells(mae, "{:.2f}"))
    held = result.figures["coverage_90"]
    table.add_row(TITLES["coverage_90"], str(held.n), *_cells(held, "{:.3f}"), _width(result.median_interval_months))
    for of_what, bands in (("predicted", result.predicted_bands), ("true", result.bands)):
        for band in bands:
            held = band.coverage.share
            width = _width(band.coverage.median_width)
            table.add_row(f"coverage, {of_what} age {_ages(band)}", str(held.n), *_cells(held, "{:.3f}"), width)
    return table


def _ages(band: Band) -> str:
    if band.high_months is None:
        return f"{band.low_months} and more"
    return f"{band.low_months} to {band.high_months}"


def _width(months: float | None) -> str:
    return "-" if months is None else f"{months:.1f}"


async def _read(
    chosen: Sequence[Labelled[Known]],
    asks: Sequence[Ask],
    sizes: Mapping[str, tuple[int, int]] | None,
    server: Server,
    check: Callable[[Reading], None],
) -> list[Reading]:
    """The readings of all of `chosen`; `check` ends it with a UsageError as soon as one shows that no label fits."""
    jobs = [Job(item.file, ask, lookup(sizes or {}, item.file)) for item, ask in zip(chosen, asks, strict=True)]
    warn_of_sizes(jobs, sizes)
    readings: list[Reading] = []
    with progress(len(jobs), starting=not server.address) as advance:
        async with reading_all(jobs, server) as answers:
            async for reading in answers:
                check(reading)
                readings.append(reading)
                advance()
    return readings


def _print(
    result: Result,
    table: Callable[[Result], Table],
    chosen: Sequence[Labelled[Known]],
    readings: Sequence[Reading],
    *,
    as_json: bool,
) -> int:
    _warn_of_training(chosen, result.release)
    tally = Tally()
    for reading in readings:
        tally.add(reading)
    tally.say()
    if as_json:
        print(json.dumps(result.record()), flush=True)
    else:
        table_console().print(table(result))
    return 0 if result.n_total > result.failed else 1


def _warn_of_training(chosen: Sequence[Labelled[Known]], release: str | None) -> None:
    ids = reader_card(repository(), release or "").get("training_ids")
    if ids is None:
        say(f"note: the training part of release {release or 'unknown'} is not known here")
    elif seen := in_training(chosen, ids):
        known = f"release {release}, or what it comes from, learnt from"
        say(f"warning: {len(seen)} of {counted(len(chosen), 'image')} have the name of one that {known}")


def _cells(value: Figure, form: str) -> tuple[str, str]:
    if value.value is None or value.low is None or value.high is None:
        return "-", "-"
    return form.format(value.value), f"{form.format(value.low)} to {form.format(value.high)}"
