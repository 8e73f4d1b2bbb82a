"""How a committee learns and asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from services.core.domain.preprocess import SEGMENT_PX
from training.active_learning.learner import Phase
from training.active_learning.strategies import Name

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a committee learns and asks.

    It has converged when its Dice on the selection has not risen by `least_gain` for `patience` rounds, or when it has
    `maximum_labels`. Members go on `from_previous` weights, as in the paper, or begin anew each round; the first round
    takes the phases `first`, where there are some, since it begins with nothing. With `scenes` they learn from any
    surroundings, exposure and file, which takes long, and else from other poses alone.
    """

    strategy: Name
    members: Count
    start: Count
    per_round: Count
    maximum_labels: Count
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    validate_every: Count
    seed: int
    patience: Count = 2
    least_gain: Annotated[float, Field(ge=0)] = 0.002
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    from_previous: bool = True
    size_px: Annotated[int, Field(ge=32, multiple_of=8)] = SEGMENT_PX
    first: tuple[Phase, ...] = ()
    scenes: bool = True

    def __post_init__(self) -> None:
        if self.strategy in ("committee", "vote_entropy") and self.members < 2:
            raise ValueError(f"a committee has at least 2 members, not {self.members}")
        if self.strategy == "mc_dropout" and not self.dropout:
            raise ValueError("mc_dropout needs a share of dropout")
        if min(self.start, self.per_round) < 1:
            raise ValueError("at least one outline is asked for at the start and in each round")

    @property
    def rounds(self) -> int:
        """How many there are until `maximum_labels`, where the committee does not converge before."""
        return 1 + max(0, -(-(self.maximum_labels - self.start) // self.per_round))

    def phases_of(self, number: int) -> tuple[Phase, ...]:
        """What a round's members learn by."""
        return self.phases if number else self.first or self.phases

    def steps(self, number: int) -> int:
        """How many steps have led to a member of a round."""
        learnt = range(0 if self.from_previous else number, number + 1)
        return sum(phase.steps for earlier in learnt for phase in self.phases_of(earlier))

    def member_seed(self, member: int) -> int:
        """Of a member's weights; what a round draws follows from it."""
        return self.seed * 1000 + member

    def drawn(self, pool: Sequence[str], *, there: int = 0) -> list[str]:
        """What is outlined first, whatever the strategy, beside as many outlines as are `there` already."""
        count = max(0, self.start - there)
        return [pool[i] for i in np.random.default_rng(self.seed).permutation(len(pool))[:count]]
