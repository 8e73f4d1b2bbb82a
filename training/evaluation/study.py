"""What the runs of a study of schedules came to, and their differences, paired by seed and radiograph."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.run.journal import Value, read_journal

ERRORS: Final = "errors.npz"
"""What a complete run leaves: `ids` (N,), how far it reads them too old, `errors` (N,) in months, the number of images
that it was `trained_on`, its `cpu_seconds`, and `made_with`."""
Key = tuple[str, str]
Errors = dict[int, dict[str, float]]
"""Absolute errors in months by seed and radiograph."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared: the column of prepared images, with CLAHE or without, and the schedule."""

    name: str
    images: str
    schedule: str
    clahe: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One complete run: its radiographs' ids (N,) and absolute errors (N,) in months, what it took, and its journal."""

    arm: Arm
    cohort: str
    seed: int
    ids: NDArray[np.str_]
    errors: NDArray[np.float64]
    trained_on: int
    cpu_seconds: float
    journal: list[dict[str, Value]]

    @classmethod
    def read(cls, folder: Path, arm: Arm, cohort: str, seed: int) -> "Outcome":
        """From the folder of the run."""
        with np.load(folder / ERRORS) as stored:
            return cls(
                arm, cohort, seed, stored["ids"], np.abs(stored["errors"].astype(np.float64)),
                int(stored["trained_on"]), float(stored["cpu_seconds"]), read_journal(folder),
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What all runs of a study have in common; `part` is what the errors are of."""

    runs: int
    images_a_run: int
    images_a_step: int
    part: str
    budget_hours: float


def errors_of(outcomes: Sequence[Outcome]) -> dict[Key, Errors]:
    """By arm and cohort."""
    found: dict[Key, Errors] = {}
    for outcome in outcomes:
        read = {str(name): float(error) for name, error in zip(outcome.ids, outcome.errors, strict=True)}
        found.setdefault((outcome.arm.name, outcome.cohort), {})[outcome.seed] = read
    return found


def matrix(errors: Errors) -> NDArray[np.float64]:
    """(S, N) of all seeds and of the radiographs that each of them read."""
    return np.array([[errors[seed][name] for name in _shared(errors.values())] for seed in sorted(errors)])


def differences(ours: Errors, others: Errors) -> NDArray[np.float64]:
    """Ours minus others, (S, N), of the seeds and radiographs that both have; S is 0 where they share none."""
    seeds = sorted(ours.keys() & others.keys())
    names = _shared(errors[seed] for errors in (ours, others) for seed in seeds)
    pairs = [[ours[seed][name] - others[seed][name] for name in names] for seed in seeds if names]
    return np.array(pairs).reshape(len(pairs), len(names))


def both(one: Errors, other: Errors) -> Errors:
    """Two networks, each for radiographs that the other does not read, as one."""
    return {seed: one[seed] | other[seed] for seed in one.keys() & other.keys()}


def _shared(read: Iterable[dict[str, float]]) -> list[str]:
    return sorted(set.intersection(*map(set, read))) if (read := list(read)) else []


def stages_of(outcome: Outcome) -> list[tuple[int, float]]:
    """Steps that each stage took, and the best MAE of the validation part by its end, in months."""
    ends: dict[int, tuple[int, float]] = {}
    best = np.inf
    for entry in outcome.journal:
        best = min(best, float(entry.get("validation_mae_months") or np.inf))
        ends[int(entry["stage"] or 0)] = (int(entry["step"] or 0), best)
    begun = (0, *(step for step, _ in ends.values()))
    return [(step - before, reached) for (step, reached), before in zip(ends.values(), begun, strict=False)]
