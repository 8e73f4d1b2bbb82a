"""U-Net: the generator that normalises the contrast of a segmented hand (paper 2.3), and what segmenters are held to.

Ronneberger O et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
"""

from typing import Final

import torch
from torch import Tensor, nn

BASE_WIDTH: Final = 16
DEPTH: Final = 4


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """(B, 1, S, S) images -> one map (B, 1, S, S); S is a multiple of 16."""

    def __init__(self) -> None:
        super().__init__()
        widths = [BASE_WIDTH * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(_convolutions(i, o) for i, o in zip([1, *widths[:-1]], widths, strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(_convolutions(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(BASE_WIDTH, 1, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        y = x
        for level, block in enumerate(self.down):
            y = block(y if level == 0 else self.pool(y))
            skips.append(y)
        skips.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            y = block(torch.cat([grow(y), skips.pop()], dim=1))
        result: Tensor = self.last(y)
        return result


class UNetGenerator(UNet):
    """(B, 1, S, S) hands in [0, 1], zero outside the mask -> enhanced hands, the same; S is a multiple of 16."""

    def forward(self, x: Tensor) -> Tensor:
        hand = (x > 0).to(x.dtype)
        return (x + super().forward(x)).clamp(0, 1) * hand
