"""One network from several that descend from each other: the mean of their weights (Wortsman et al. 2022)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The equal mean of state dictionaries with the same names and shapes; counters are taken from the first.

    Only for networks that were fine-tuned one from the other: between independent ones the mean is no good network.

    Raises ValueError where names or shapes differ.
    """
    first = states[0]
    for state in states[1:]:
        if {name: value.shape for name, value in state.items()} != {name: v.shape for name, v in first.items()}:
            raise ValueError("weights to average are of different networks")
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }
