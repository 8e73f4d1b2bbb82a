"""Discriminator of the conditional GAN (paper 2.3): three convolutions and one fully connected layer on a pair."""

from typing import Final

import torch
from torch import Tensor, nn

WIDTHS: Final = (16, 32, 64)
STRIDE: Final = 4
GRID: Final = 4


class Discriminator(nn.Module):
    """Pairs of (B, 1, S, S) hands x and y in [0, 1] -> logits (B,) of y being the gold standard of x.

    Logits, not probabilities: eqs. 8 to 10 are then taken with softplus, which neither overflows nor takes log 0.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((2, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 5, stride=STRIDE, padding=2), nn.LeakyReLU(0.2)]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID))
        self.last = nn.Linear(WIDTHS[-1] * GRID * GRID, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits: Tensor = self.last(self.convolutions(torch.cat([x, y], dim=1) * 2 - 1).flatten(1))[:, 0]
        return logits
