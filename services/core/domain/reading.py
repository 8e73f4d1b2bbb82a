"""What a reading consists of besides its number: the model that answered, and where in the hand it came from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model of the repository and the version of it that answered."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Activation:
    """Contributions in months of the places of a grid (h, w); their mean plus `bias_months` is the network's output."""

    values_months: NDArray[np.float32]
    bias_months: float
