"""Several networks that are served as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.models.regressor import TransferNetwork


class Ensemble(nn.Module):
    """The mean of networks with the same outputs: (B, 1, S, S) images in [0, 1] -> (B, n) and maps (B, K, h, w).

    K is the sum of the members' channels: their maps lie one behind the other and one linear head reads all of them,
    which is the mean of the members' heads. So the class activation map stays exact (paper 2.5).

    Raises ValueError where the members answer different questions or have maps of different sizes.
    """

    def __init__(self, members: Sequence[TransferNetwork]) -> None:
        super().__init__()
        heads = [member.head for member in members]
        if len({head.out_features for head in heads}) != 1:
            raise ValueError(f"networks of an ensemble have {[head.out_features for head in heads]} outputs")
        self.members = nn.ModuleList(members)
        self.head = nn.Linear(sum(head.in_features for head in heads), heads[0].out_features)
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([head.weight for head in heads], dim=1) / len(heads))
            self.head.bias.copy_(torch.stack([head.bias for head in heads]).mean(dim=0))

    def features(self, x: Tensor) -> Tensor:
        """Last feature maps (B, K, h, w) of all members."""
        maps = [member.features(x) for member in self.members]
        if len({tuple(of_one.shape[2:]) for of_one in maps}) != 1:
            sizes = [
                f"{m.backbone_name} {tuple(of_one.shape[2:])}" for m, of_one in zip(self.members, maps, strict=True)
            ]
            raise ValueError(f"networks of an ensemble have maps of different sizes: {', '.join(sizes)}")
        return torch.cat(maps, dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(x)
        return self.head(maps.mean(dim=(2, 3))), maps


Reader = TransferNetwork | Ensemble
"""What a release may read with."""
