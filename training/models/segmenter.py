"""FC-DenseNet for the hand's mask, and the loss it is trained with.

Jegou S et al., "The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic Segmentation", CVPRW 2017.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_CHANNELS: Final = 24
GROWTH: Final = 12
LAYERS: Final = 4
MIDDLE_LAYERS: Final = 2
TRANSITIONS: Final = 3


class DenseBlock(nn.Module):
    """Layers of batch norm, ReLU and 3x3 convolution, each fed with all before it: (B, C, H, W) -> (B, C', H, W).

    With `keep_input` C' = C + layers x growth; without, only what the block itself adds. `dropout` is the share of each
    layer's maps that training leaves out.
    """

    def __init__(self, channels: int, layers: int, *, keep_input: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.keep_input = keep_input
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * GROWTH),
                nn.ReLU(),
                nn.Conv2d(channels + i * GROWTH, GROWTH, 3, padding=1, bias=False),
                *([nn.Dropout2d(dropout)] if dropout else []),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        own: list[Tensor] = []
        for layer in self.layers:
            own.append(layer(torch.cat([x, *own], dim=1)))
        return torch.cat([x, *own] if self.keep_input else own, dim=1)


class FCDenseNet(nn.Module):
    """(B, 1, H, W) radiographs -> logits (B, 1, H, W); H and W are multiples of 8.

    Three transitions down, three up, 192 feature maps in the middle, which flattened are the image's feature vector.
    With `dropout` (0.2 in the paper that the network is from) it can say how unsure it is; the weights are the same.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        channels = FIRST_CHANNELS
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.down, self.transitions_down = nn.ModuleList(), nn.ModuleList()
        skips: list[int] = []
        for _ in range(TRANSITIONS):
            self.down.append(DenseBlock(channels, LAYERS, keep_input=True, dropout=dropout))
            channels += LAYERS * GROWTH
            skips.append(channels)
            self.transitions_down.append(
                nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.MaxPool2d(2))
            )
        self.middle = DenseBlock(channels, MIDDLE_LAYERS, keep_input=True, dropout=dropout)
        channels += MIDDLE_LAYERS * GROWTH
        self.middle_channels = channels
        self.transitions_up, self.up = nn.ModuleList(), nn.ModuleList()
        added = LAYERS * GROWTH
        for skip in reversed(skips):
            self.transitions_up.append(nn.ConvTranspose2d(channels, added, 2, stride=2))
            self.up.append(DenseBlock(added + skip, LAYERS, keep_input=False, dropout=dropout))
            channels = added
        self.last = nn.Conv2d(channels, 1, 1)

    def bottleneck(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Middle feature maps (B, 192, H/8, W/8), before flattening, and the skip connections."""
        x = self.first(x * 2 - 1)
        skips: list[Tensor] = []
        for block, transition in zip(self.down, self.transitions_down, strict=True):
            x = block(x)
            skips.append(x)
            x = transition(x)
        return self.middle(x), skips

    def expand(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Logits (B, 1, H, W) of what `bottleneck` returned."""
        skips = list(skips)
        for transition, block in zip(self.transitions_up, self.up, strict=True):
            x = block(torch.cat([transition(x), skips.pop()], dim=1))
        logits: Tensor = self.last(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(*self.bottleneck(x))


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Equation 4, L_pixel - DICE, made trainable: pixel-mean cross entropy, and the soft Dice of the probability.

    Both (B, 1, H, W), mask in {0, 1}. As printed, Dice is taken of a thresholded map, whose gradient is zero.
    """
    probability = logits.sigmoid()
    overlap = (probability * mask).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
    dice = (2 * overlap + 1) / (total + 1)
    return functional.binary_cross_entropy_with_logits(logits, mask) - dice.mean()
