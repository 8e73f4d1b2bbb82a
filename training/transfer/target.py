"""What is learnt from an image: an age in months by sex, or a category; each with its loss and its figures."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from services.core.domain.contracts import SEX_ORDER
from services.core.domain.metrics import OLDEST_MONTHS, area_under_roc
from training.models.regressor import AGE_MEAN_MONTHS, AGE_SCALE_MONTHS

UNKNOWN: Final = SEX_ORDER.index("unknown")
LOSS_SCALE_MONTHS: Final = 10.0

Outputs = NDArray[np.float32]
Labels = NDArray[np.float32]
Sexes = NDArray[np.int64]


class Target(Protocol):
    """What the head's outputs mean. Labels (N,) are float32 and sexes (N,) are columns of `SEX_ORDER`."""

    @property
    def outputs(self) -> int:
        """How many rows the head has."""

    def number(self, label: str) -> float:
        """A label as the table has it, as a number. Raises ValueError."""

    def loss(self, outputs: Tensor, labels: Tensor, sexes: Tensor) -> Tensor:
        """The loss of a batch, from the head's raw outputs (B, n)."""

    def imitation(self, outputs: Tensor, taught: Tensor, sexes: Tensor) -> Tensor:
        """How far a batch's raw outputs (B, n) are from those of another network, in units of `loss`."""

    def figures(self, outputs: Outputs, labels: Labels, sexes: Sexes) -> dict[str, float]:
        """Figures of a set of images, from raw outputs (N, n)."""

    def selection(self, figures: dict[str, float]) -> float:
        """What of the figures chooses between two states of the weights; lower is better."""

    def balance_bins(self, labels: Labels) -> NDArray[np.int64]:
        """The bin (N,) of each label; balanced sampling draws every bin equally often."""


@dataclass(frozen=True, slots=True)
class AgeTarget(Target):
    """Age in months, one row of the head for each of `SEX_ORDER`, by absolute error.

    `unknown_share` is the weight of the row for an unknown sex, the expectation of hiding the sex in that share of the
    images; with 1 the sex is never used, and the figures are those of that row.
    """

    unknown_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    band_months: Annotated[float, Field(gt=0)] = 12.0
    kind: Literal["age"] = "age"

    @property
    @override
    def outputs(self) -> int:
        return len(SEX_ORDER)

    @override
    def number(self, label: str) -> float:
        months = float(label)
        if not 0 <= months <= OLDEST_MONTHS:
            raise ValueError(f"an age of {label} months is not between 0 and {OLDEST_MONTHS}")
        return months

    @override
    def loss(self, outputs: Tensor, labels: Tensor, sexes: Tensor) -> Tensor:
        return self._weighted((outputs * AGE_SCALE_MONTHS + AGE_MEAN_MONTHS - labels[:, None]).abs(), sexes)

    @override
    def imitation(self, outputs: Tensor, taught: Tensor, sexes: Tensor) -> Tensor:
        return self._weighted((outputs - taught).abs() * AGE_SCALE_MONTHS, sexes)

    def _weighted(self, errors: Tensor, sexes: Tensor) -> Tensor:
        """Mean of errors (B, n) in months, of the row for the sex and of that for an unknown one."""
        own = errors.gather(1, sexes[:, None])[:, 0]
        weighted = (1 - self.unknown_share) * own + self.unknown_share * errors[:, UNKNOWN]
        return weighted.mean() / LOSS_SCALE_MONTHS

    @override
    def figures(self, outputs: Outputs, labels: Labels, sexes: Sexes) -> dict[str, float]:
        unknown = AgeTarget(unknown_share=1.0).months(outputs, sexes)
        return {
            "mae_months": float(np.abs(self.months(outputs, sexes) - labels).mean()),
            "mae_sex_unknown_months": float(np.abs(unknown - labels).mean()),
        }

    def months(self, outputs: Outputs, sexes: Sexes) -> NDArray[np.float32]:
        """Ages (N,) in months, each of its sex's row."""
        columns = sexes if self.unknown_share < 1 else np.full_like(sexes, UNKNOWN)
        return outputs[np.arange(len(outputs)), columns] * np.float32(AGE_SCALE_MONTHS) + np.float32(AGE_MEAN_MONTHS)

    @override
    def selection(self, figures: dict[str, float]) -> float:
        return figures["mae_months"]

    @override
    def balance_bins(self, labels: Labels) -> NDArray[np.int64]:
        return np.asarray(labels // self.band_months, np.int64)


@dataclass(frozen=True, slots=True)
class CategoryTarget(Target):
    """One of some classes by cross entropy; two of them also get the area under the ROC curve of the second."""

    classes: tuple[str, ...]
    kind: Literal["category"] = "category"

    def __post_init__(self) -> None:
        if len(set(self.classes)) < 2:
            raise ValueError("a category needs at least two different classes")

    @property
    @override
    def outputs(self) -> int:
        return len(self.classes)

    @override
    def number(self, label: str) -> float:
        if label not in self.classes:
            raise ValueError(f"{label!r} is none of the classes {', '.join(self.classes)}")
        return float(self.classes.index(label))

    @override
    def loss(self, outputs: Tensor, labels: Tensor, sexes: Tensor) -> Tensor:
        del sexes
        return nn.functional.cross_entropy(outputs, labels.long())

    @override
    def imitation(self, outputs: Tensor, taught: Tensor, sexes: Tensor) -> Tensor:
        del sexes
        return nn.functional.cross_entropy(outputs, taught.softmax(dim=1))

    @override
    def figures(self, outputs: Outputs, labels: Labels, sexes: Sexes) -> dict[str, float]:
        del sexes
        truth = torch.from_numpy(labels).long()
        result = {
            "cross_entropy": float(nn.functional.cross_entropy(torch.from_numpy(outputs), truth)),
            "accuracy": float((outputs.argmax(axis=1) == labels).mean()),
        }
        if self.outputs == 2:
            result["auc"] = area_under_roc(outputs[:, 1] - outputs[:, 0], labels == 1)
        return result

    @override
    def selection(self, figures: dict[str, float]) -> float:
        return figures["cross_entropy"]

    @override
    def balance_bins(self, labels: Labels) -> NDArray[np.int64]:
        return labels.astype(np.int64)
