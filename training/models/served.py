"""The graphs that are exported: a network with everything around it that serving must not compute by itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.models.ensemble import Reader
from training.models.segmenter import FCDenseNet


class ServedSegmenter(nn.Module):
    """(B, 1, S, S) radiographs -> probability of the hand (B, 1, S, S)."""

    def __init__(self, network: FCDenseNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, radiograph: Tensor) -> Tensor:
        probability: Tensor = self.network(radiograph).sigmoid()
        return probability


@dataclass(frozen=True, slots=True)
class Typicality:
    """Linear scores and two distances of `by_thirds` features (B, K); higher is more typical.

    Scores: (features - mean) @ directions + offsets, `directions` (K, n). Distance: minus the norm of the features
    whitened onto the leading components, (features - mean) @ whitening, `whitening` (K, m), over sqrt(m), and minus
    the norm of what those components leave over, in units of its training mean.
    """

    mean: Tensor
    directions: Tensor
    offsets: Tensor
    whitening: Tensor
    components: Tensor
    residual_scale: float


def by_thirds(maps: Tensor) -> Tensor:
    """Means (B, 3 K) of feature maps (B, K, h, w), h >= 3, over their upper, middle and lower third.

    Where a feature lies tells an upright hand from one that is upside down or whose parts are out of order, which the
    mean over the whole map does not.
    """
    third = round(maps.shape[2] / 3)
    bands = (maps[:, :, :third], maps[:, :, third:-third], maps[:, :, -third:])
    return torch.cat([band.mean(dim=(2, 3)) for band in bands], dim=1)


class ServedReader(nn.Module):
    """(B, 1, S, S) hands -> outputs (B, n), activation (B, n, h, w), bias (B, n), typicality (B, m + 2).

    Outputs are the head's times `scale` plus `offset`: ages in months by sex, or logits of classes. Each image and its
    mirror are read; feature maps are averaged after the mirror's is turned back, so that the mean of the activation
    plus the bias stays the output (paper 2.5).
    """

    def __init__(self, network: Reader, typicality: Typicality, *, scale: float, offset: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("head_weight", network.head.weight.detach()[:, :, None, None] * scale)
        self.register_buffer("head_bias", network.head.bias.detach() * scale + offset)
        for name in ("mean", "directions", "offsets", "whitening", "components"):
            self.register_buffer(f"typical_{name}", getattr(typicality, name))
        self.residual_scale = typicality.residual_scale

    def features(self, hand: Tensor) -> Tensor:
        """Feature maps (B, K, h, w), averaged over the image and its mirror."""
        both = self.network.features(torch.stack([hand, hand.flip(3)]).flatten(0, 1)).unflatten(0, (2, -1))
        return (both[0] + both[1].flip(3)) / 2

    def typicality(self, features: Tensor) -> Tensor:
        """Scores (B, n + 2) of `by_thirds` features (B, K)."""
        centred = features - self.typical_mean
        scores = centred @ self.typical_directions + self.typical_offsets
        inside = centred @ self.typical_components
        white = centred @ self.typical_whitening
        distance = white.square().mean(dim=1, keepdim=True).sqrt()
        left_over = (centred.square().sum(1, keepdim=True) - inside.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
        return torch.cat([scores, -distance, -left_over / self.residual_scale], dim=1)

    def forward(self, hand: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = self.features(hand)
        activation = nn.functional.conv2d(maps, self.head_weight)
        bias = self.head_bias + torch.zeros_like(activation[:, :, 0, 0])
        return activation.mean(dim=(2, 3)) + bias, activation, bias, self.typicality(by_thirds(maps))
