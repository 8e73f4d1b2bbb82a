"""`boneage demo`: reads the drawn samples, or the user's own files, and writes a table and a report with pictures."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from services.cli.files import InputFile, collect
from services.cli.models import real_performance, regressor_card, repository
from services.cli.reading import STAGES, Ask, Reading, years_and_months
from services.cli.report import Case, Summary, phantom_mae_months, write_report
from services.cli.session import Job, reading_all
from services.cli.terminal import Tally, progress
from services.cli.usage import UsageError, printable

SAMPLES: Final = Path(__file__).resolve().parents[2] / "deploy" / "samples"
SAMPLES_CSV: Final = "samples.csv"
ASK: Final = Ask(artifacts=True)


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
    summary = Summary(release, versions, real_performance(regressor_card(repository(), release)))
    console.print(headline(cases, summary))
    console.print(table_of(cases))
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


def table_of(cases: Sequence[Case]) -> Table:
    """One row for each sample; ages in years and months, times in ms."""
    table = Table(caption="times in ms")
    for name in ("sample", "drawn phantom", "sex", "true age", "read age", "90% interval"):
        table.add_column(name, overflow="fold")
    for stage in STAGES:
        table.add_column(stage, justify="right")
    table.add_column("release")
    for case in cases:
        table.add_row(*_cells(case))
    return table


def _cells(case: Case) -> list[str]:
    reading = case.reading
    true_age = "-" if case.true_age_months is None else years_and_months(case.true_age_months)
    times = [f"{reading.stages_ms[stage]:.0f}" if reading.stages_ms.get(stage) else "-" for stage in STAGES]
    release = reading.response.release if reading.response is not None else "-"
    phantom = "drawn phantom" if case.drawn_phantom else "no"
    return [printable(case.name), phantom, reading.sex, true_age, *_result(reading), *times, release]


def _result(reading: Reading) -> tuple[str, str]:
    if reading.age_months is None or reading.interval_months is None:
        return reading.status, printable(reading.reason)
    low, high = reading.interval_months
    return years_and_months(reading.age_months), f"{years_and_months(low)} to {years_and_months(high)}"


async def _read(samples: Sequence[Sample]) -> tuple[list[Case], Tally]:
    cases: list[Case] = []
    tally = Tally()
    with progress("reading", len(samples)) as advance:
        async with reading_all([Job(sample.file, ASK) for sample in samples], server="", in_flight=1) as readings:
            async for reading in readings:
                sample = samples[len(cases)]
                cases.append(Case(sample.file.id, reading, sample.drawn_phantom, sample.true_age_months))
                tally.add(reading)
                advance()
    return cases, tally
