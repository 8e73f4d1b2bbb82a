"""The stages of paced transfer learning (paper 2.4): what is trained in each, for how long and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import nn

from training.models.backbones import FLOWS, Flow
from training.models.regressor import TransferNetwork
from training.run.schedule import cosine_rate

HEAD: Final = "head"
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True)
class Stage:
    """The head and the flows in `trainable` learn from `images` images, up to `learning_rate`; the others are frozen.

    The rate rises over the first `warm_up` of them and falls on a cosine to `final_fraction`. The last flow that learns
    does so as fast as the head, and each before it `flow_decay` times as fast as the one after it; with `block_decay`
    so does each of their blocks that learns (layer-wise decay). After `patience` validations without one that is the
    best of the stage it ends, and what it had left goes to the next. With `copies` every image is seen in that many
    augmented forms and no more, so that what the flows before those that learn make of them can be kept (`cached`).
    """

    trainable: tuple[Flow, ...]
    images: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    warm_up: Share = 0.1
    final_fraction: Share = 0.0
    flow_decay: Decay = 1.0
    block_decay: Decay = 1.0
    patience: Annotated[int, Field(ge=1)] | None = None
    copies: Annotated[int, Field(ge=1)] | None = None
    cached: bool = False

    def __post_init__(self) -> None:
        if self.cached and self.copies is None:
            raise ValueError("a stage that is cached needs a number of copies")
        if self.cached and not self.prefix:
            raise ValueError("a stage that trains the entry flow has nothing frozen to cache")

    @property
    def prefix(self) -> tuple[Flow, ...]:
        """The flows before the first that learns, in the order in which an image passes them."""
        first = min((FLOWS.index(flow) for flow in self.trainable), default=len(FLOWS))
        return FLOWS[:first]

    @property
    def name(self) -> str:
        """For logs."""
        return "+".join((HEAD, *reversed([flow for flow in FLOWS if flow in self.trainable])))

    def rate(self, seen: int, budget: int) -> float:
        """Learning rate after `seen` of `budget` images."""
        return cosine_rate(
            seen / max(budget, 1), top=self.learning_rate, warm_up=self.warm_up, final_fraction=self.final_fraction
        )

    def freeze(self, network: TransferNetwork) -> None:
        """Let only this stage's modules learn; the others stay in evaluation mode, batch norm to the byte."""
        network.eval()
        network.requires_grad_(False)
        flows = network.flows()
        for module in (network.head, *(flows[flow] for flow in self.trainable)):
            module.train()
            module.requires_grad_(True)

    def parameter_groups(self, network: TransferNetwork) -> list[tuple[list[nn.Parameter], float]]:
        """The parameters that learn, with the factor of each group on the learning rate."""
        flows = network.flows()
        groups: list[tuple[list[nn.Parameter], float]] = [(list(network.head.parameters()), 1.0)]
        behind = 0
        for depth, flow in enumerate(flow for flow in reversed(FLOWS) if flow in self.trainable):
            for block in [flows[flow]] if self.block_decay == 1 else reversed(flows[flow]):
                if parameters := list(block.parameters()):
                    groups.append((parameters, self.flow_decay**depth * self.block_decay**behind))
                    behind += 1
        return groups


def total_images(stages: Sequence[Stage]) -> int:
    """Images seen by all stages together."""
    return sum(stage.images for stage in stages)
