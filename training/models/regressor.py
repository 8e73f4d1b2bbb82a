"""Bone-age regressor: a timm backbone, global average pooling and a linear head with one row per sex.

The head is linear on the pooled features on purpose: the class activation map is then exact (paper 2.5), the mean of
`w_k f_k(u, v)` over the map plus the bias being the network's output.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import timm
from safetensors.torch import load_file
from torch import Tensor, nn

from services.core.domain.contracts import SEX_ORDER

AGE_MEAN_MONTHS: Final = 127.0
AGE_SCALE_MONTHS: Final = 41.0

STAGES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "tf_efficientnet_lite0": {
        "entry": ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2"),
        "middle": ("blocks.3", "blocks.4"),
        "exit": ("blocks.5", "blocks.6", "conv_head", "bn2"),
    },
    "legacy_xception": {
        "entry": ("conv1", "bn1", "conv2", "bn2", "block1", "block2", "block3"),
        "middle": tuple(f"block{i}" for i in range(4, 12)),
        "exit": ("block12", "conv3", "bn3", "conv4", "bn4"),
    },
}
"""Blocks of each backbone by the size of their feature maps (paper 2.4): the order of unfreezing is exit to entry."""


class BoneAgeRegressor(nn.Module):
    """(B, 1, S, S) hand images in [0, 1] -> ages in months (B, 3) in `SEX_ORDER` and feature maps (B, K, h, w)."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        if backbone not in STAGES:
            raise ValueError(f"no stage map for backbone {backbone!r}; known are {sorted(STAGES)}")
        self.stages = STAGES[backbone]
        self.backbone = timm.create_model(backbone, num_classes=0, global_pool="", in_chans=1)
        self.head = nn.Linear(self.backbone.num_features, len(SEX_ORDER))
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def load_imagenet(self, weights: Path) -> None:
        """Load ImageNet weights in timm's naming; the first convolution's three colours are summed to grey."""
        state = load_file(weights)
        own = self.backbone.state_dict()
        for name, tensor in state.items():
            if tensor.ndim == 4 and tensor.shape[1] == 3 and own[name].shape[1] == 1:
                state[name] = tensor.sum(dim=1, keepdim=True)
        self.backbone.load_state_dict(state)

    def features(self, x: Tensor) -> Tensor:
        """Last feature maps (B, K, h, w)."""
        maps: Tensor = self.backbone(x * 2 - 1)
        return maps

    def ages(self, pooled: Tensor) -> Tensor:
        """Ages in months (B, 3) of pooled features (B, K)."""
        result: Tensor = self.head(pooled) * AGE_SCALE_MONTHS + AGE_MEAN_MONTHS
        return result

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(x)
        return self.ages(maps.mean(dim=(2, 3))), maps

    def stage_modules(self, stage: str) -> Iterator[nn.Module]:
        """The backbone's modules of one stage."""
        for name in self.stages[stage]:
            yield self.backbone.get_submodule(name)
