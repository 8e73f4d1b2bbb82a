"""`boneage demo`: reads the drawn samples, or the user's own files, and writes a table and a report with pictures."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.files import InputFile, collect
from services.cli.models import reader_card, real_performance, repository
from services.cli.reading import STAGES, Ask, years_and_months
from services.cli.report import Case, Summary, phantom_mae_months, write_report
from services.cli.server import Server
from services.cli.session import Job, reading_all
from services.cli.terminal import Tally, progress
from services.cli.usage import UsageError, printable

SAMPLES: Final = Path(__file__).resolve().parents[2] / "deploy" / "samples"
SAMPLES_CSV: Final = "samples.csv"
ASK: Final = Ask(artifacts=True)
NAME_COLUMNS: Final = ("sample", "kind")
READING_COLUMNS: Final = (*NAME_COLUMNS, "sex", "true age", "read age", "90% interval")
STAGE_COLUMNS: Final = ("decode ms", "segment", "enhance", "regress", "CAM", "total")
ONE_TABLE_WIDTH: Final = 130


@dataclass(frozen=True, slots=True)
class Sample:
    """A radiograph to show; `true_age_months` is known of drawn phantoms only."""

    file: InputFile
    drawn_phantom: bool
    true_age_months: float | None = None


def drawn_samples(folder: Path = SAMPLES) -> list[Sample]:
    """The drawn phantoms that come with the project, in the order of their table (file, sex, age_months)."""
    try:
        with (folder / SAMPLES_CSV).open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
    except OSError:
        raise UsageError(f"the samples are missing: {printable(folder / SAMPLES_CSV)} cannot be opened") from None
    files = [collect([folder / row["file"]])[0] for row in rows]
    return [
        Sample(file, drawn_phantom=True, true_age_months=float(row["age_months"]))
        for file, row in zip(files, rows, strict=True)
    ]


def own_samples(folder: Path) -> list[Sample]:
    """The user's own files."""
    return [Sample(file, drawn_phantom=False) for file in collect([folder])]


async def demo(samples: Sequence[Sample], report: Path, *, console: Console) -> int:
    """Read `samples` with services of our own, print the table, write `report`; exit code 1 if any failed."""
    cases, tally = await _read(samples)
    responses = [case.reading.response for case in cases if case.reading.response is not None]
    release = responses[0].release if responses else ""
    versions = {model.name: model.version for response in responses for model in response.models}
    summary = Summary(release, versions, real_performance(reader_card(repository(), release)))
    console.print(headline(cases, summary), highlight=False)
    for table in tables_of(cases, width=console.width):
        console.print(table)
    write_report(report, cases, summary, now=datetime.now().astimezone())
    tally.say()
    console.print(f"report: {report}", soft_wrap=True, highlight=False, markup=False)
    return 1 if tally.failed else 0


def headline(cases: Sequence[Case], summary: Summary) -> str:
    """What the numbers below are worth."""
    real, own = summary.real, phantom_mae_months(cases)
    lines = [f"Release {summary.release or 'unknown'}. Not a medical device."]
    if real is not None:
        lines.append(f"Mean absolute error on real radiographs ({real.measured_on}): {real.mae_months:.1f} months.")
    if own is not None:
        lines.append(
            f"Mean absolute error on the drawn phantoms below: {own:.1f} months; it says nothing of real hands."
        )
    return "\n".join(lines)


def tables_of(cases: Sequence[Case], *, width: int) -> list[Table]:
    """One row for each sample; latency in a table of its own where one table would not fit in `width` characters."""
    rows = [(_name(case), _reading(case), _times(case), _release(case)) for case in cases]
    if width >= ONE_TABLE_WIDTH:
        columns = [*READING_COLUMNS, *STAGE_COLUMNS, "release"]
        return [_table(columns, ([*name, *reading, *times, release] for name, reading, times, release in rows))]
    return [
        _table([*READING_COLUMNS, "release"], ([*name, *reading, release] for name, reading, _, release in rows)),
        _table([*NAME_COLUMNS, *STAGE_COLUMNS], ([*name, *times] for name, _, times, _ in rows)),
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in STAGE_COLUMNS else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _name(case: Case) -> tuple[str, str]:
    return escape(printable(case.name)), "drawn phantom" if case.drawn_phantom else "image"


def _reading(case: Case) -> tuple[str, str, str, str]:
    reading = case.reading
    true_age = "-" if case.true_age_months is None else years_and_months(case.true_age_months)
    if reading.classes:
        told = ", ".join(f"{c.name} {c.probability:.0%}" for c in reading.classes)
        return reading.sex, true_age, escape(printable(told)), escape(printable(", ".join(reading.class_set)))
    if reading.age_months is None or reading.interval_months is None:
        return reading.sex, true_age, reading.status, escape(printable(reading.reason))
    low, high = reading.interval_months
    return (
        reading.sex,
        true_age,
        years_and_months(reading.age_months),
        f"{years_and_months(low)} to {years_and_months(high)}",
    )


def _times(case: Case) -> list[str]:
    times = case.reading.stages_ms
    return [f"{times[stage]:.0f}" if times.get(stage) else "-" for stage in STAGES]


def _release(case: Case) -> str:
    return case.reading.response.release if case.reading.response is not None else "-"


async def _read(samples: Sequence[Sample]) -> tuple[list[Case], Tally]:
    cases: list[Case] = []
    tally = Tally()
    with progress(len(samples), starting=True) as advance:
        async with reading_all([Job(sample.file, ASK) for sample in samples], server=Server(), in_flight=1) as readings:
            async for reading in readings:
                sample = samples[len(cases)]
                cases.append(Case(sample.file.id, reading, sample.drawn_phantom, sample.true_age_months))
                tally.add(reading)
                advance()
    return cases, tally
