"""How unsure probabilities of the hand are: entropies per pixel in nats, averaged over the image."""

import numpy as np
from numpy.typing import NDArray

from services.core.domain.postprocess import otsu_threshold

Probabilities = NDArray[np.floating]


def binary_entropy(probability: Probabilities) -> NDArray[np.float64]:
    """-p log p - (1 - p) log(1 - p) of each value; 0 at 0 and 1."""
    p = np.clip(probability.astype(np.float64), 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(-p * np.log(p)) + np.nan_to_num(-(1 - p) * np.log1p(-p)))


def entropy(probabilities: Probabilities) -> float:
    """Entropy of the mean of several maps (N, S, S): of one network, or of a committee as a whole."""
    return float(binary_entropy(probabilities.mean(axis=0)).mean())


def vote_entropy(probabilities: Probabilities) -> float:
    """Entropy of the members' votes, each a mask by Otsu's threshold of its map (C, S, S).

    Dagan I, Engelson SP, "Committee-based sampling for training probabilistic classifiers", ICML 1995.
    """
    votes = np.stack([one >= otsu_threshold(one.astype(np.float32)) for one in probabilities])
    return float(binary_entropy(votes.mean(axis=0)).mean())


def mutual_information(draws: Probabilities) -> float:
    """What the draws (T, S, S) of a network with dropout disagree about: entropy of the mean less mean of entropies.

    Houlsby N et al., "Bayesian Active Learning for Classification and Preference Learning" (BALD), 2011; Gal Y, Islam
    R, Ghahramani Z, ICML 2017.
    """
    return entropy(draws) - float(binary_entropy(draws).mean())
