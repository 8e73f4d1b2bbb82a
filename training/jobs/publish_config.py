"""What is published, and where to: the configuration of `training.jobs.publish`."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from services.core.domain.contracts import ENHANCER, SEGMENTER
from training.data.radiographs import Dataset
from training.data.split import MASK_TEST_CSV, SPLIT_CSV
from training.evaluation.gating import Disturbance, RefusedShares
from training.jobs.command import JobConfig
from training.models.exported import EXPORTED
from training.publish.card import NOTICE
from training.publish.kinds import Kind, kind_of
from training.publish.reader import Member
from training.transfer.target import AgeTarget, CategoryTarget


class PublishConfig(JobConfig):
    """What is published, and where to.

    A model without weights of its own is a version that the store holds already; where that goes for all of them, the
    job only calibrates: intervals and gates for these radiographs, in a release of their own. Of a model that
    `versions` does not number, new weights take the next number that is free, and else what serves now is taken.
    """

    dataset: Dataset
    masks: Path | None = None  # outlines, of which those that never_train names (CSV, id) score a segmenter
    never_train: Path = MASK_TEST_CSV
    hands: Path
    store: str  # a folder, or s3://BUCKET/PREFIX
    signing_key: Path | None = None  # PEM, of an elliptic key; the release is not signed without
    work: Path
    release: str
    versions: dict[str, int] = Field(default_factory=dict)
    segmenter: Path | None = None
    enhancer: Path | None = None
    reader: Annotated[list[Path], Field(min_length=1)] | None = None  # of one descent: their weights are averaged
    backbone: str | None = None
    ensemble: list[Member] = Field(default_factory=list)  # other networks: their mean with the reader is what is served
    target: Annotated[AgeTarget | CategoryTarget, Field(discriminator="kind")] = AgeTarget()
    trained_with: dict[str, list[Path]] = Field(default_factory=dict)
    enhancement_study: Path | None = None  # its gate.json, for the enhancer's card
    maximum_structure_change: float
    maximum_interval_width_months: float
    refused_share: float = Field(ge=0, le=1)
    turned_share: float = Field(ge=0, le=1)
    foreign_share: float | None = Field(None, ge=0, le=1)  # refused_share where there is none
    # Which are heeded, for networks that have learnt to read them.
    disturbed_share: dict[Disturbance, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    fitting_images: int = Field(ge=1)
    seed: int
    licence_notice: str | None = Field(None, min_length=1)  # for the cards; that of RSNA's radiographs is known

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Weights come with what else is needed to publish them."""
        if self.segmenter and self.masks is None:
            raise ValueError("a segmenter needs masks, the outlines that score it")
        if self.reader and self.backbone is None:
            raise ValueError("a reader needs backbone, the network that its weights belong to")
        if self.ensemble and not self.reader:
            raise ValueError("an ensemble needs reader, the first of its networks")
        if self.enhancement_study and not self.enhancer:
            raise ValueError("an enhancement_study needs enhancer, the weights that it is of")
        if not set(self.versions) <= set(self.models):
            raise ValueError(f"versions may only name {', '.join(self.models)}")
        if set(self.weights) & set(self.trained_with) and self.notice is None:
            raise ValueError("licence_notice does not say under which terms these weights may be used")
        told = {*self.trained_with, *self.exported}
        if unexplained := [name for name in self.weights if name not in told]:
            raise ValueError(f"trained_with does not say how {', '.join(unexplained)} was trained")
        return self

    @property
    def weights(self) -> dict[str, Path | list[Path]]:
        """Weights by model, of those models that have some here."""
        given = {SEGMENTER: self.segmenter, ENHANCER: self.enhancer, self.kind.model: self.reader}
        return {name: weights for name, weights in given.items() if weights is not None}

    @property
    def exported(self) -> dict[str, Path]:
        """By model, those of the weights that are a published version's file, which stays as it is, to the byte."""
        given = {SEGMENTER: self.segmenter, ENHANCER: self.enhancer}
        return {name: path for name, path in given.items() if path is not None and path.suffix == EXPORTED}

    @property
    def gate_shares(self) -> RefusedShares:
        """How many radiographs the gates may refuse."""
        foreign = self.refused_share if self.foreign_share is None else self.foreign_share
        return RefusedShares(self.refused_share, foreign, self.turned_share, self.disturbed_share)

    @property
    def notice(self) -> str | None:
        """What the cards say of the terms of use; of weights that learnt from this project's split, RSNA's."""
        return NOTICE if self.licence_notice is None and self.dataset.split == SPLIT_CSV else self.licence_notice

    @property
    def members(self) -> list[Member]:
        """The networks whose mean is served; none where the reader is one that the store has."""
        return [Member(self.backbone, self.reader), *self.ensemble] if self.reader and self.backbone else []

    @property
    def models(self) -> tuple[str, ...]:
        """What the release consists of."""
        return SEGMENTER, ENHANCER, self.kind.model

    @property
    def kind(self) -> Kind:
        """Whether ages are read or classes told apart."""
        return kind_of(self.target)
