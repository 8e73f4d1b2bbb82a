"""Paced transfer learning (paper 2.4): unfreezes a network stage by stage, each from the best state before it."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from training.models.backbones import FLOWS
from training.models.regressor import TransferNetwork
from training.run.exits import BadConfigurationError
from training.transfer.devices import Device
from training.transfer.images import Examples, Sampler
from training.transfer.inputs import Inputs
from training.transfer.stages import Stage
from training.transfer.target import Target

GRADIENT_NORM: Final = 5.0
VALIDATION_BATCH: Final = 32
OPTIMISERS: Final[dict[str, type[torch.optim.Optimizer]]] = {
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,  # the paper's, with a base rate of 0.001
}


@dataclass(frozen=True, slots=True)
class Fitting:
    """What all stages have in common. `validate_every` counts images; `balanced` draws every age equally often."""

    batch_size: Annotated[int, Field(ge=1)]
    validate_every: Annotated[int, Field(ge=1)]
    seed: int
    optimiser: Literal["adamw", "rmsprop"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    balanced: bool = False


@dataclass(frozen=True, slots=True)
class Lessons:
    """Raw outputs (N, n) of another network for the training images, and the share of the loss that they have."""

    outputs: NDArray[np.float32]
    share: float


class Learning(nn.Module):
    """All from the first flow that learns on: maps (B, C, h, w) of the flows before it -> the head's outputs (B, n)."""

    def __init__(self, network: TransferNetwork, stage: Stage) -> None:
        super().__init__()
        flows = network.flows()
        self.blocks = nn.Sequential(*(flows[flow] for flow in FLOWS if flow not in stage.prefix))
        self.head = network.head

    @override
    def forward(self, maps: Tensor) -> Tensor:
        pooled = self.blocks(maps).float().mean(dim=(2, 3))
        with torch.autocast(maps.device.type, enabled=False):
            outputs: Tensor = self.head(pooled)
        return outputs


class StagedLearner:
    """The learner of `training.run.steps`; `finished` is true after the last stage, with the best weights loaded."""

    def __init__(
        self,
        network: TransferNetwork,
        *,
        train: Examples,
        validation: Examples,
        target: Target,
        stages: Sequence[Stage],
        fitting: Fitting,
        device: Device,
        cache: Path | None = None,
        lessons: Lessons | None = None,
    ) -> None:
        if short := [stage.name for stage in stages if stage.images < fitting.batch_size]:
            raise BadConfigurationError(
                f"a batch of {fitting.batch_size} images is more than there are in stage {short[0]}"
            )
        if fitting.batch_size % device.world:
            raise BadConfigurationError(
                f"a batch of {fitting.batch_size} images cannot be shared by {device.world} processes"
            )
        if fitting.batch_size > len(train):
            raise BadConfigurationError(f"{len(train)} images to learn from are no batch of {fitting.batch_size}")
        if not len(validation):
            raise BadConfigurationError("no image is left to validate with")
        self.network = network.to(device.handle, memory_format=torch.channels_last)
        self.train, self.validation, self.target = train, validation, target
        self.stages, self.fitting, self.device, self.cache = tuple(stages), fitting, device, cache
        self.lessons = lessons
        bins = target.balance_bins(train.labels) if fitting.balanced else None
        self.sampler = Sampler(len(train), fitting.batch_size, fitting.seed, bins)
        self.score, self.best = math.inf, copy.deepcopy(network.state_dict())
        self.finished = False
        self._enter(0, budget=self.stages[0].images)

    @property
    def stage(self) -> Stage:
        """The stage at hand."""
        return self.stages[self.index]

    def _enter(self, index: int, *, budget: int) -> None:
        """Begin a stage with the weights that the network has."""
        self.index, self.budget, self.seen, self.unimproved = index, budget, 0, 0
        self.stage_score = math.inf
        self.stage.freeze(self.network)
        self.inputs = Inputs(self.network, self.stage, self.sampler, self.train, device=self.device, cache=self.cache)
        self.learning = Learning(self.network, self.stage)
        self.parallel = self.device.parallel(self.learning)
        groups = self.stage.parameter_groups(self.network)
        self.optimiser = OPTIMISERS[self.fitting.optimiser](
            [{"params": parameters, "factor": factor} for parameters, factor in groups],
            lr=self.stage.learning_rate,
            weight_decay=self.fitting.weight_decay,
        )
        self.scaler = self.device.scaler()

    def step(self, step: int) -> dict[str, float]:
        """One batch; validates, ends stages and goes on to the next where it is time."""
        torch.manual_seed(self.fitting.seed * 1_000_003 + step)
        rate = self.stage.rate(self.seen, self.budget)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        indices, maps = self.inputs.training(step)
        labels = torch.from_numpy(self.train.labels[indices]).to(self.device.handle)
        sexes = torch.from_numpy(self.train.sexes[indices]).to(self.device.handle)
        with self.device.autocast():
            outputs = self.parallel(maps)
        loss = self.target.loss(outputs.float(), labels, sexes)
        if self.lessons is not None:
            taught = torch.from_numpy(self.lessons.outputs[indices]).to(self.device.handle)
            imitation = self.target.imitation(outputs.float(), taught, sexes)
            loss = (1 - self.lessons.share) * loss + self.lessons.share * imitation
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.learning.parameters(), GRADIENT_NORM)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.device.average_statistics(self.learning)
        figures = {"stage": float(self.index), "loss": float(loss.detach()), "learning_rate": rate}
        return figures | self._account()

    def _account(self) -> dict[str, float]:
        """Count the batch; validate after every `validate_every` images and at the end of the stage."""
        before = self.seen // self.fitting.validate_every
        self.seen += self.fitting.batch_size
        over = self.seen + self.fitting.batch_size > self.budget
        if not over and self.seen // self.fitting.validate_every == before:
            return {}
        figures = self.device.agreed(self.validate)
        score = self.target.selection(figures)
        self.unimproved = 0 if score < self.stage_score else self.unimproved + 1
        self.stage_score = min(self.stage_score, score)
        if score < self.score:
            self.score, self.best = score, copy.deepcopy(self.network.state_dict())
        if over or (self.stage.patience is not None and self.unimproved >= self.stage.patience):
            self._leave()
        return {f"validation_{name}": value for name, value in figures.items()}

    def _leave(self) -> None:
        """Go on from the best weights so far to the next stage, which gets the images that this one did not need."""
        self.network.load_state_dict(self.best)
        left = max(0, self.budget - self.seen)
        if self.index + 1 < len(self.stages):
            self._enter(self.index + 1, budget=self.stages[self.index + 1].images + left)
        else:
            self.finished = True
            self.network.eval()

    def validate(self) -> dict[str, float]:
        """Figures on the validation images, each seen once."""
        outputs = self.predict(self.validation, keep=True)
        return self.target.figures(outputs, self.validation.labels, self.validation.sexes)

    def predict(self, examples: Examples, *, keep: bool = False) -> NDArray[np.float32]:
        """Raw outputs (N, n) of unchanged images."""
        training = {module: module.training for module in self.network.modules()}
        self.network.eval()
        parts = []
        for start in range(0, len(examples), VALIDATION_BATCH):
            rows = np.arange(start, min(start + VALIDATION_BATCH, len(examples)))
            maps = self.inputs.unchanged(examples, rows, keep=keep)
            with torch.inference_mode(), self.device.autocast():
                parts.append(self.learning(maps).float().cpu().numpy())
        for module, was in training.items():
            module.training = was
        return np.concatenate(parts)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "index": self.index, "budget": self.budget, "seen": self.seen, "unimproved": self.unimproved,
            "score": self.score, "stage_score": self.stage_score, "finished": self.finished, "best": self.best,
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.network.load_state_dict(state["network"])
        self._enter(state["index"], budget=state["budget"])
        self.seen, self.unimproved = state["seen"], state["unimproved"]
        self.score, self.best, self.finished = state["score"], state["best"], state["finished"]
        self.stage_score = state["stage_score"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
