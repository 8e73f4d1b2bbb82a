"""What disturbances cost: the same radiographs read as they are and disturbed, and compared one by one."""

import asyncio
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.cases import png, true_aspect
from benchmarks.disturbances import DISTURBANCES, HARD
from services.cli.files import collect
from services.cli.reading import Ask, Reading
from services.cli.server import Server
from services.cli.session import Job, reading_all
from services.cli.tables import Label, read_labels
from training.data.split import read_split

Figures = dict[str, Any]
IMAGES: Final = 300
WORSE_BY, WORSE_BY_HARD, MORE_ABSTAINED = 0.10, 0.25, 0.05  # what a disturbance may cost


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of `n_total` radiographs.

    Absolute errors in months by id of all that have a number with the gates off; of those that have one with them on,
    whether the interval held; and how many failed.
    """

    n_total: int
    errors: Mapping[str, float]
    held: Mapping[str, bool]
    failed: int

    @classmethod
    def of(cls, readings: Sequence[Reading], labels: Mapping[str, Label]) -> "Outcome":
        """Of ungated readings of radiographs that have a label by their id."""
        return cls(
            n_total=len(readings),
            errors={
                reading.file.id: abs(reading.ungated_age_months - labels[reading.file.id].age_months)
                for reading in readings
                if reading.ungated_age_months is not None
            },
            held={
                reading.file.id: interval[0] <= labels[reading.file.id].age_months <= interval[1]
                for reading in readings
                if reading.status == "OK" and (interval := reading.interval_months)
            },
            failed=sum(reading.status == "FAILED" for reading in readings),
        )

    @property
    def answered(self) -> int:
        """How many have a number with the gates on."""
        return len(self.held)

    def mae(self, ids: Iterable[str]) -> float | None:
        """MAE in months over these radiographs; None where there are none."""
        chosen = [self.errors[id_] for id_ in ids]
        return float(np.mean(chosen)) if chosen else None


def cost(disturbed: Outcome, undisturbed: Outcome, *, worse_by: float) -> Figures:
    """What a disturbance costs, and whether that is kept within `worse_by` of the MAE and MORE_ABSTAINED abstentions.

    The MAE with the gates off is compared on the radiographs that have a number both ways. Whatever has none, lost or
    failed, counts among the abstentions. `passed` says what those are worth that get a number with the gates on.
    """
    both = sorted(disturbed.errors.keys() & undisturbed.errors.keys())
    mae, before = disturbed.mae(both), undisturbed.mae(both)
    worse = mae / before - 1 if mae is not None and before else None
    more = (undisturbed.answered - disturbed.answered) / disturbed.n_total
    return {
        "n_total": disturbed.n_total,
        "failed": disturbed.failed,
        "abstained": disturbed.n_total - disturbed.answered - disturbed.failed,
        "lost": disturbed.n_total - len(disturbed.errors),
        "n_ungated": len(disturbed.errors),
        "mae_ungated_months": disturbed.mae(disturbed.errors),
        "passed": {
            "n": disturbed.answered,
            "mae_months": disturbed.mae(disturbed.held),
            "coverage_90": float(np.mean(list(disturbed.held.values()))) if disturbed.held else None,
        },
        "paired": {"n": len(both), "mae_months": mae, "undisturbed_mae_months": before},
        "worse_by": worse if worse is None else round(worse, 4),
        "more_abstained": round(more, 4),
        "kept": worse is not None and worse <= worse_by and more <= MORE_ABSTAINED,
    }


def robustness(data: Path) -> Figures:
    """The first radiographs of the test part under each disturbance, against themselves as they are."""
    rsna = data / "rsna-bone-age"
    labels = read_labels(rsna / "boneage-training-dataset.csv")
    ids = [id_ for id_, part in read_split().items() if part == "test"][:IMAGES]
    images = {id_: true_aspect(rsna, id_) for id_ in ids}
    outcomes: dict[str, Outcome] = {}
    for name, change in DISTURBANCES.items():
        with tempfile.TemporaryDirectory() as folder:
            for id_, grey in images.items():
                (Path(folder) / f"{id_}.png").write_bytes(png(np.ascontiguousarray(change(grey))))
            outcomes[name] = Outcome.of(asyncio.run(_read(Path(folder), labels)), labels)
    return {
        name: cost(outcome, outcomes["as it is"], worse_by=WORSE_BY_HARD if name in HARD else WORSE_BY)
        for name, outcome in outcomes.items()
    }


async def _read(folder: Path, labels: Mapping[str, Label]) -> list[Reading]:
    """All radiographs of a folder, each with its sex, the numbers that gates held back included."""
    files = collect([folder])
    asks = [Ask(sex=labels[file.id].sex, ungated=True) for file in files]
    jobs = [Job(file, ask) for file, ask in zip(files, asks, strict=True)]
    async with reading_all(jobs, Server()) as readings:
        return [reading async for reading in readings]
