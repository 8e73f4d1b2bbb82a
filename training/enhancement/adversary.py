"""The objectives of the conditional GAN (paper 2.3), in logits."""

from torch import Tensor
from torch.nn import functional


def discriminator_loss(gold: Tensor, generated: Tensor) -> Tensor:
    """What D minimises, minus eq. 8: -E[log D(x, y)] - E[log(1 - D(x, G(x)))], of logits (B,) of both."""
    return functional.softplus(-gold).mean() + functional.softplus(generated).mean()


def adversarial_loss(generated: Tensor) -> Tensor:
    """What G minimises: -E[log D(x, G(x))] of the logits (B,) of its hands.

    Eq. 9 as printed, E[log(1 - D(x, G(x)))], has the same fixed points but no gradient while D still wins easily
    (Goodfellow I et al., NeurIPS 2014, section 3).
    """
    return functional.softplus(-generated).mean()


def reconstruction_loss(generated: Tensor, target: Tensor) -> Tensor:
    """The form of eq. 4, a pixelwise term less an overlap, for grey levels (B, 1, S, S) in [0, 1].

    Pixelwise: L1 of the grey levels and twice of their first differences (edges). Overlap: the soft Dice of squares,
    2 sum(g y) / (sum(g^2) + sum(y^2)).
    """
    difference = generated - target
    edges = difference.diff(dim=3).abs().mean() + difference.diff(dim=2).abs().mean()
    overlap = (generated * target).sum(dim=(1, 2, 3))
    total = generated.square().sum(dim=(1, 2, 3)) + target.square().sum(dim=(1, 2, 3))
    dice = (2 * overlap + 1) / (total + 1)
    return difference.abs().mean() + 2 * edges + 1 - dice.mean()
