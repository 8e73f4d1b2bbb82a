"""The network that transfer learning trains: a timm backbone, global average pooling and one linear head.

The head is linear on the pooled features on purpose: the class activation map is then exact (paper 2.5), the mean of
`w_k f_k(u, v)` over the map plus the bias being the network's output.
"""

from pathlib import Path
from typing import Final

from torch import Tensor, nn

from training.models import backbones
from training.models.backbones import Flow, StageMap

AGE_MEAN_MONTHS: Final = 127.0
AGE_SCALE_MONTHS: Final = 41.0


class TransferNetwork(nn.Module):
    """(B, 1, S, S) images in [0, 1] -> outputs (B, n) and feature maps (B, K, h, w).

    A `stage_map` says where the backbone is cut into flows, which else the size of the maps does.
    """

    def __init__(self, backbone: str, outputs: int, *, stage_map: StageMap | None = None) -> None:
        super().__init__()
        self.backbone = backbones.create(backbone)
        self.backbone_name, self.stage_map = backbone, stage_map
        self.head = nn.Linear(self.backbone.head_hidden_size, outputs)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def load_imagenet(self, weights: Path) -> None:
        """Load the backbone's ImageNet weights (safetensors, timm's naming)."""
        backbones.load_imagenet(self.backbone, weights)

    def load_from_hub(self) -> None:
        """Load the backbone's weights from timm's hub. Raises FailedError where they cannot be fetched."""
        backbones.load_from_hub(self.backbone_name, self.backbone)

    def features(self, x: Tensor) -> Tensor:
        """Last feature maps (B, K, h, w)."""
        maps: Tensor = self.backbone(x * 2 - 1)
        return maps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(x)
        return self.head(maps.mean(dim=(2, 3))), maps

    def flows(self) -> dict[Flow, nn.Sequential]:
        """The backbone's blocks by flow, sharing its weights."""
        return backbones.flows(self.backbone_name, self.backbone, self.stage_map)
