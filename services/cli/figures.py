"""The figures of a measurement: errors against the ages of a reader, each with its bootstrap interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from services.cli.files import InputFile
from services.cli.reading import Reading
from services.cli.tables import Label, lookup
from services.cli.usage import UsageError
from services.core.domain.metrics import (
    AGE_BANDS_MONTHS,
    Coverage,
    Figure,
    Values,
    coverage,
    covered,
    figure,
    in_age_band,
    mean,
    root_mean_square,
    rounded,
)

NAMED_IDS: Final = 20
Known = TypeVar("Known", Label, str)


@dataclass(frozen=True, slots=True)
class Labelled(Generic[Known]):
    """A radiograph with what a reader said of it: its age and sex, or its class."""

    file: InputFile
    label: Known


@dataclass(frozen=True, slots=True)
class Band:
    """One band of age in whole months, ends inclusive; `high_months` None: no end.

    Of its readings: the MAE, and how many of the true ages lie in their intervals.
    """

    low_months: int
    high_months: int | None
    mae_months: Figure
    coverage: Coverage

    def record(self) -> dict[str, object]:
        """The band as one JSON object."""
        return (
            {"low_months": self.low_months, "high_months": self.high_months, "n": self.mae_months.n}
            | with_interval("mae_months", self.mae_months)
            | self.coverage.record()
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one run; `n` readings have a number, out of `n_total`.

    `coverage_90` stands among the figures with its bootstrap interval, in the bands with its Clopper-Pearson interval.
    """

    n: int
    n_total: int
    failed: int
    abstained: Figure
    figures: dict[str, Figure]
    median_interval_months: float | None
    bands: tuple[Band, ...]
    predicted_bands: tuple[Band, ...]
    release: str | None

    def record(self) -> dict[str, object]:
        """The evaluation as one JSON object; a figure over no radiograph is null."""
        record: dict[str, object] = {"n": self.n, "n_ungated": self.figures["mae_ungated_months"].n}
        record |= {f"n_{sex}": self.figures[f"mae_{sex}_months"].n for sex in ("male", "female")}
        record |= {"n_total": self.n_total, "failed": self.failed}
        for name, value in {"abstained": self.abstained, **self.figures}.items():
            record |= with_interval(name, value)
        record["abstained"] = round(self.abstained.value or 0)
        record["median_interval_months"] = rounded(self.median_interval_months)
        record["by_age_band"] = [band.record() for band in self.bands]
        record["by_predicted_age_band"] = [band.record() for band in self.predicted_bands]
        return record | {"release": self.release}


def choose(files: Iterable[InputFile], labels: Mapping[str, Known], part: set[str] | None) -> list[Labelled[Known]]:
    """The files that have a label and, where `part` is given, belong to it. Raises UsageError where none is left."""
    in_part = [file for file in files if part is None or lookup(dict.fromkeys(part, True), file)]
    chosen = [Labelled(file, label) for file in in_part if (label := lookup(labels, file))]
    if not chosen:
        raise UsageError("no image has both a label and a place in the part that was asked for")
    return chosen


def evaluate(readings: Sequence[Reading], labels: Sequence[Label]) -> Evaluation:
    """The figures of `readings` against `labels`, in the same order."""
    pairs = list(zip(readings, labels, strict=True))
    answered = [(reading, label) for reading, label in pairs if reading.status == "OK"]
    true = np.array([label.age_months for _, label in answered], np.float64)
    read = np.array([reading.age_months for reading, _ in answered], np.float64)
    intervals = np.array([reading.interval_months for reading, _ in answered], np.float64).reshape(-1, 2)
    male, female = (np.array([label.male is sex for _, label in answered], np.bool_) for sex in (True, False))
    errors, widths = read - true, intervals[:, 1] - intervals[:, 0]
    hits = covered(true, intervals[:, 0], intervals[:, 1])
    return Evaluation(
        n=len(answered),
        n_total=len(pairs),
        failed=sum(reading.status == "FAILED" for reading in readings),
        abstained=figure(np.array([reading.status == "ABSTAINED" for reading in readings], np.float64), _count),
        figures={
            "mae_months": figure(abs(errors), mean),
            "mae_ungated_months": figure(abs(_ungated_errors(pairs)), mean),
            "mae_male_months": figure(abs(errors[male]), mean),
            "mae_female_months": figure(abs(errors[female]), mean),
            "rmse_months": figure(errors, root_mean_square),
            "bias_months": figure(errors, mean),
            "coverage_90": figure(hits, mean),
        },
        median_interval_months=coverage(hits, widths).median_width,
        bands=_bands(true, errors, hits, widths),
        predicted_bands=_bands(read, errors, hits, widths),
        release=next((reading.response.release for reading in readings if reading.response is not None), None),
    )


def _bands(ages: Values, errors: Values, hits: Values, widths: Values) -> tuple[Band, ...]:
    """The readings (N,) by the bands that `ages` lie in."""
    bands = []
    for low, high in AGE_BANDS_MONTHS:
        inside = in_age_band(ages, low, high)
        mae = figure(abs(errors[inside]), mean)
        bands.append(Band(low, high, mae, coverage(hits[inside], widths[inside])))
    return tuple(bands)


def in_training(chosen: Iterable[Labelled[Known]], training_ids: Iterable[str]) -> list[str]:
    """The ids among `chosen` that the release was trained on."""
    known = dict.fromkeys(training_ids, True)
    return [item.file.id for item in chosen if lookup(known, item.file)]


def named(ids: Sequence[str]) -> str:
    """The first of `ids`, with the number of those left out."""
    rest = f" and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else ""
    return ", ".join(ids[:NAMED_IDS]) + rest


def _ungated_errors(pairs: Iterable[tuple[Reading, Label]]) -> Values:
    """Errors in months of every number there is, those that the gates held back included."""
    errors = [
        reading.ungated_age_months - label.age_months
        for reading, label in pairs
        if reading.ungated_age_months is not None
    ]
    return np.array(errors, np.float64)


def _count(values: Values) -> float:
    return float(values.sum())


def with_interval(name: str, value: Figure) -> dict[str, object]:
    """A figure and its interval as they stand in a record."""
    interval = None if value.value is None else [rounded(value.low), rounded(value.high)]
    return {name: rounded(value.value), f"{name}_ci95": interval}
