"""Writes the report: one HTML file with everything inside, that needs no script, font or picture from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import jinja2

from services.cli.artifacts import write_atomically
from services.cli.pictures import pictures_of
from services.cli.reading import Reading, years_and_months

TEMPLATE: Final = "report.html.j2"
SCALE_END_MONTHS: Final = 228
SCALE_LEFT: Final = 24.0
SCALE_WIDTH: Final = 680.0


@dataclass(frozen=True, slots=True)
class RealPerformance:
    """The error that a release's card states on real radiographs."""

    mae_months: float
    measured_on: str


@dataclass(frozen=True, slots=True)
class Case:
    """One radiograph of the report; `true_age_months` is None where nobody knows it."""

    name: str
    reading: Reading
    drawn_phantom: bool
    true_age_months: float | None = None

    @property
    def error_months(self) -> float | None:
        """Read age less true age."""
        if self.reading.age_months is None or self.true_age_months is None:
            return None
        return self.reading.age_months - self.true_age_months


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands above the cases."""

    release: str
    models: Mapping[str, int]
    real: RealPerformance | None


def phantom_mae_months(cases: Sequence[Case]) -> float | None:
    """Mean absolute error in months over the cases whose true age is known and that were read."""
    errors = [abs(case.error_months) for case in cases if case.error_months is not None]
    return sum(errors) / len(errors) if errors else None


def write_report(target: Path, cases: Sequence[Case], summary: Summary, *, now: datetime) -> None:
    """Write the page to `target`, whole or not at all."""
    write_atomically(target, render(cases, summary, now=now).encode())


def render(cases: Sequence[Case], summary: Summary, *, now: datetime) -> str:
    """The page as HTML."""
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            cases=[(case, _pictures(case)) for case in cases],
            summary=summary,
            counts={status: sum(c.reading.status == status for c in cases) for status in ("OK", "ABSTAINED", "FAILED")},
            mae_months=phantom_mae_months(cases),
            now=now,
        )
    )


def scale_x(age_months: float) -> float:
    """Where an age lies on the scale of the page, in units of its viewBox; what is off the scale lies at its end."""
    share = min(max(age_months / SCALE_END_MONTHS, 0.0), 1.0)
    return round(SCALE_LEFT + share * SCALE_WIDTH, 1)


def _pictures(case: Case) -> Mapping[str, str]:
    return pictures_of(case.reading.response.artifacts) if case.reading.response is not None else {}


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("services.cli", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"age": years_and_months, "scale_x": scale_x}
    return environment
