"""The network that transfer learning trains: a timm backbone, global average pooling and one linear head.

The head is linear on the pooled features on purpose: the class activation map is then exact (paper 2.5), the mean of
`w_k f_k(u, v)` over the map plus the bias being the network's output.
"""

from pathlib import Path
from typing import Final

from torch import Tensor, nn

from training.models import backbones
from training.models.backbones import Flow

AGE_MEAN_MONTHS: Final = 127.0
AGE_SCALE_MONTHS: Final = 41.0


class TransferNetwork(nn.Module):
    """(B, 1, S, S) images in [0, 1] -> outputs (B, n) and feature maps (B, K, h, w)."""

    def __init__(self, backbone: str, outputs: int) -> None:
        super().__init__()
        self.backbone = backbones.create(backbone)
        self.backbone_name = backbone
        self.head = nn.Linear(self.backbone.head_hidden_size, outputs)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def load_imagenet(self, weights: Path) -> None:
        """Load the backbone's ImageNet weights (safetensors, timm's naming)."""
        backbones.load_imagenet(self.backbone, weights)

    def features(self, x: Tensor) -> Tensor:
        """Last feature maps (B, K, h, w)."""
        maps: Tensor = self.backbone(x * 2 - 1)
        return maps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(x)
        return self.head(maps.mean(dim=(2, 3))), maps

    def flows(self) -> dict[Flow, nn.Sequential]:
        """The backbone's blocks by flow, sharing its weights."""
        return backbones.flows(self.backbone_name, self.backbone)
