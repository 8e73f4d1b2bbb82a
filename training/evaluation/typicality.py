"""Fits the scores by which the regressor tells whether a hand is like its training images.

Two linear scores on the features by thirds (a hand against what is not one; upright against turned) and two distances
that need no counter-examples: Mahalanobis on the leading components, and what those components leave over.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.models.served import Typicality

COMPONENTS: Final = 64
"""At most; of few images half as many as there are, since the last ones would be measured along directions of none."""
PENALTY: Final = 1e-3
NAMES: Final = ("hand likeness", "uprightness", "nearness", "familiarity")

Features = NDArray[np.float32]


def fit_typicality(upright: Features, turned: Features, others: Features) -> Typicality:
    """Fit on features by thirds (N, K) of upright hands, of turned hands and of images that are no hands."""
    mean = upright.mean(axis=0)
    spread = float((upright - mean).std())
    hands = np.concatenate([upright, turned])
    scores = [
        _logistic(hands - mean, others - mean, scale=spread),
        _logistic(upright - mean, turned - mean, scale=spread),
    ]
    _, singular, rows = np.linalg.svd(upright - mean, full_matrices=False)
    kept = min(COMPONENTS, len(upright) // 2)
    components = rows[:kept].T
    deviation = singular[:kept] / np.sqrt(len(upright) - 1)
    left_over = np.linalg.norm((upright - mean) - (upright - mean) @ components @ components.T, axis=1)
    return Typicality(
        mean=torch.from_numpy(mean),
        directions=torch.from_numpy(np.stack([weights for weights, _ in scores], axis=1)),
        offsets=torch.tensor([offset for _, offset in scores], dtype=torch.float32),
        whitening=torch.from_numpy((components / deviation).astype(np.float32)),
        components=torch.from_numpy(components.astype(np.float32)),
        residual_scale=float(left_over.mean()),
    )


def _logistic(positive: Features, negative: Features, *, scale: float) -> tuple[NDArray[np.float32], float]:
    """Weights (K,) and offset of a penalised logistic regression, both classes of equal weight."""
    x = torch.from_numpy(np.concatenate([positive, negative]) / scale).double()
    y = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).double()
    importance = torch.where(y > 0, 0.5 / len(positive), 0.5 / len(negative))
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, offset], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights + offset, y, reduction="none")
        loss = (losses * importance).sum() + PENALTY * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return (weights.detach() / scale).float().numpy(), float(offset.detach())
