"""Cuts a timm backbone into the paper's entry, middle and exit flow, so that they can be unfrozen one by one.

Blocks are told apart by the size of their feature maps (paper 2.4): down to an eighth of the image's side they are the
entry flow, a sixteenth the middle flow, and below that the exit flow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn

Flow = Literal["entry", "middle", "exit"]
FLOWS: Final[tuple[Flow, ...]] = ("entry", "middle", "exit")
MIDDLE_STRIDE: Final = 16
EXIT_STRIDE: Final = 32
FIRST_OF: Final[dict[str, dict[Flow, str]]] = {
    # Chollet 2017 counts the block that brings the maps to a sixteenth to the entry flow.
    "legacy_xception": {"middle": "block4", "exit": "block12"},
}
PROBE_PX: Final = 224


def create(name: str) -> nn.Module:
    """A timm backbone for grey images, without pooling and classifier, with random weights."""
    if not timm.is_model(name):
        raise ValueError(f"timm has no backbone {name!r}")
    backbone: nn.Module = timm.create_model(name, num_classes=0, global_pool="", in_chans=1)
    return backbone


def load_imagenet(backbone: nn.Module, weights: Path) -> None:
    """Load weights in timm's naming (safetensors); the first convolution's three colours are summed to grey."""
    state = load_file(weights)
    own = backbone.state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 4 and tensor.shape[1] == 3 and own[name].shape[1] == 1:
            state[name] = tensor.sum(dim=1, keepdim=True)
    backbone.load_state_dict(state)


class _Units(fx.Tracer):
    """Traces a backbone down to its blocks and no further."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del m
        return module_qualified_name in self.names


def chain(backbone: nn.Module) -> dict[str, nn.Module]:
    """The backbone's blocks by name, in the order in which an image passes them: applied in turn they are the backbone.

    Raises ValueError where they do not follow one another in a single line, as then there is no place to cut.
    """
    names = []
    for name, child in backbone.named_children():
        inner = [f"{name}.{i}" for i, _ in child.named_children()] if type(child) is nn.Sequential else []
        names += inner or [name]
    *steps, output = _Units(names).trace(backbone).nodes
    blocks: dict[str, nn.Module] = {}
    for before, node in zip([None, *steps], [*steps, output], strict=True):
        straight = before is None or node.all_input_nodes == [before]
        if not straight or node.op not in {"placeholder", "call_module", "output"} or len(node.args) > 1:
            raise ValueError(f"the backbone's blocks do not follow in one line at {node.name!r}")
        if node.op == "call_module":
            blocks[str(node.target)] = backbone.get_submodule(str(node.target))
    return blocks


def flows(name: str, backbone: nn.Module) -> dict[Flow, nn.Sequential]:
    """The backbone's blocks as three sequences that follow one another, sharing its weights."""
    blocks = chain(backbone)
    first = FIRST_OF.get(name) or _first_by_size(blocks)
    parts: dict[Flow, list[nn.Module]] = {flow: [] for flow in FLOWS}
    now: Flow = "entry"
    starts = {block: flow for flow, block in first.items()}
    for block, module in blocks.items():
        now = starts.get(block, now)
        parts[now].append(module)
    return {flow: nn.Sequential(*modules) for flow, modules in parts.items()}


def _first_by_size(blocks: dict[str, nn.Module]) -> dict[Flow, str]:
    """The first block of the middle and of the exit flow, by the side of what the blocks put out."""
    x: Tensor = torch.zeros(1, 1, PROBE_PX, PROBE_PX)
    first: dict[Flow, str] = {}
    states = {name: block.training for name, block in blocks.items()}
    with torch.inference_mode():
        for name, block in blocks.items():
            x = block.eval()(x)
            block.train(states[name])
            stride = PROBE_PX / x.shape[-1]
            if stride > EXIT_STRIDE * 0.75:
                first.setdefault("exit", name)
            elif stride > MIDDLE_STRIDE * 0.75:
                first.setdefault("middle", name)
    if len(first) < 2:
        raise ValueError(f"no block has maps of a {MIDDLE_STRIDE}th and a {EXIT_STRIDE}nd of the side: {list(blocks)}")
    return first
