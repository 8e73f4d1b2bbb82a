"""Scores every radiograph of a pool exactly once, image by image, with what the strategy needs and nothing more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.active_learning.dissimilarity import dissimilarity
from training.active_learning.learner import Image
from training.active_learning.strategies import Measure
from training.active_learning.uncertainty import entropy, mutual_information, vote_entropy
from training.models.segmenter import FCDenseNet

DROPOUT_DRAWS: Final = 8


@dataclass(frozen=True, slots=True)
class Scorer:
    """A committee and what is to be measured.

    Dissimilarity and vote entropy are of all members, entropy and mutual information of the first, the latter of as
    many `draws` with dropout.
    """

    members: Sequence[FCDenseNet]
    measures: Sequence[Measure]
    draws: int = DROPOUT_DRAWS

    def scores(self, image: Image, *, seed: int) -> dict[Measure, float]:
        """The measures of one image (S, S) in [0, 1]."""
        needed = set(self.measures)
        of_all = needed & {"dissimilarity", "vote_entropy"}
        found: dict[Measure, float] = {}
        if of_all or "entropy" in needed:
            seen = [_look(member, image) for member in (self.members if of_all else self.members[:1])]
            found["dissimilarity"] = float(dissimilarity(np.stack([features for features, _ in seen])))
            found["vote_entropy"] = vote_entropy(np.stack([probability for _, probability in seen]))
            found["entropy"] = entropy(seen[0][1][None])
        if "mutual_information" in needed:
            found["mutual_information"] = mutual_information(_dropout_draws(self.members[0], image, self.draws, seed))
        return {measure: found[measure] for measure in self.measures}

    @property
    def width(self) -> int:
        """K, of the embedding."""
        return self.members[0].middle_channels

    def embedding(self, image: Image) -> NDArray[np.float32]:
        """The first member's bottleneck features (K,), averaged over the image."""
        maps = _look(self.members[0], image)[0].reshape(self.width, -1)
        pooled: NDArray[np.float32] = maps.mean(axis=1)
        return pooled


def _look(member: FCDenseNet, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The flattened bottleneck features (D,) and the probability (S, S) that a member has of an image."""
    member.eval()
    batch = torch.from_numpy(image)[None, None].contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        middle, skips = member.bottleneck(batch)
        probability = member.expand(middle, skips).sigmoid()
    return middle.numpy().reshape(-1), probability.numpy()[0, 0]


def _dropout_draws(member: FCDenseNet, image: Image, draws: int, seed: int) -> NDArray[np.float32]:
    """Probabilities (T, S, S) of one image with another part of the maps dropped each time, drawn from a seed."""
    member.eval()
    for module in member.modules():
        if isinstance(module, nn.Dropout2d):
            module.train()
    torch.manual_seed(seed)
    batch = torch.from_numpy(image)[None, None].contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = [member(batch).sigmoid().numpy()[0, 0] for _ in range(draws)]
    member.eval()
    return np.stack(found)
