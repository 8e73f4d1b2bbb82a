"""The figures of a release that tells classes apart, each with its bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.cli.figures import with_interval
from services.cli.reading import Reading
from services.core.domain.metrics import Figure, Values, area_under_roc, figure, mean

POSITIVE: Final = 1
BINARY: Final = 2


@dataclass(frozen=True, slots=True)
class ClassEvaluation:
    """All figures of one run; `n` readings have classes, out of `n_total`; `by_class` counts them by their label.

    With two classes there is the area under the ROC curve of the second.
    """

    n: int
    n_total: int
    failed: int
    abstained: int
    figures: dict[str, Figure]
    by_class: dict[str, int]
    release: str | None

    def record(self) -> dict[str, object]:
        """The evaluation as one JSON object; a figure over no radiograph is null."""
        record: dict[str, object] = {
            "n": self.n, "n_total": self.n_total, "failed": self.failed, "abstained": self.abstained,
        }  # fmt: skip
        for name, value in self.figures.items():
            record |= with_interval(name, value)
        return record | {"by_class": self.by_class, "release": self.release}


def evaluate_classes(readings: Sequence[Reading], labels: Sequence[str]) -> ClassEvaluation:
    """The figures of `readings` against the names of the true classes, in the same order."""
    pairs = [(reading, label) for reading, label in zip(readings, labels, strict=True) if reading.classes]
    names = [c.name for c in pairs[0][0].classes] if pairs else []
    truth = np.array([names.index(label) for _, label in pairs], np.intp)
    probabilities = np.array([[c.probability for c in r.classes] for r, _ in pairs]).reshape(len(pairs), -1)
    in_set = np.array([[c.in_set for c in r.classes] for r, _ in pairs], np.bool_).reshape(len(pairs), -1)
    rows = np.arange(len(pairs))
    figures = {
        "accuracy": figure((probabilities.argmax(axis=1) == truth).astype(np.float64) if pairs else np.zeros(0), mean),
        "coverage_90": figure(in_set[rows, truth].astype(np.float64) if pairs else np.zeros(0), mean),
        "classes_in_set": figure(in_set.sum(axis=1).astype(np.float64), mean),
    }
    if len(names) == BINARY:
        scored = np.stack([probabilities[:, POSITIVE], (truth == POSITIVE).astype(np.float64)], axis=1)
        figures["auc"] = figure(scored, _auc)
    return ClassEvaluation(
        n=len(pairs),
        n_total=len(readings),
        failed=sum(reading.status == "FAILED" for reading in readings),
        abstained=sum(reading.status == "ABSTAINED" for reading in readings),
        figures=figures,
        by_class={name: int((truth == index).sum()) for index, name in enumerate(names)},
        release=next((reading.response.release for reading in readings if reading.response is not None), None),
    )


def _auc(scored: Values) -> float:
    return area_under_roc(scored[:, 0], scored[:, 1] > 0)
