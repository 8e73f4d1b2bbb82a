"""Cuts a timm backbone into the paper's entry, middle and exit flow, so that they can be unfrozen one by one.

Blocks are told apart by the size of their feature maps (paper 2.4): down to an eighth of the image's side they are the
entry flow, a sixteenth the middle flow, and below that the exit flow; or by a stage map, which names the first block of
the middle and of the exit flow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from training.run.exits import FailedError

Flow = Literal["entry", "middle", "exit"]
FLOWS: Final[tuple[Flow, ...]] = ("entry", "middle", "exit")
MIDDLE_STRIDE: Final = 16
EXIT_STRIDE: Final = 32


@dataclass(frozen=True, slots=True)
class StageMap:
    """The first block of the middle and of the exit flow; of several whose names begin so, the first."""

    middle: str
    exit: str


STAGE_MAPS: Final[dict[str, StageMap]] = {
    # Chollet 2017 counts the block that brings the maps to a sixteenth to the entry flow.
    "legacy_xception": StageMap("block4", "block12"),
}
CHAINS: Final = (
    "xception", "resnet", "resnext", "regnet", "densenet", "inception", "efficientnet", "mobilenet", "convnext", "vgg",
)  # fmt: skip
NO_CHAIN: Final = f"its blocks do not follow in one line, as do those of the families {', '.join(CHAINS)}"
PROBE_PX: Final = 224


def create(name: str) -> nn.Module:
    """A timm backbone for grey images, without pooling and classifier, with random weights."""
    if not timm.is_model(name):
        raise ValueError(f"timm has no backbone {name!r}")
    return _made(name)


def _made(name: str, *, pretrained: bool = False) -> nn.Module:
    try:
        made: nn.Module = timm.create_model(name, pretrained, num_classes=0, global_pool="", in_chans=1)
    except AssertionError as error:
        raise ValueError(f"{name} cannot do without its pooling and classifier: {error}") from error
    return made


def load_from_hub(name: str, backbone: nn.Module) -> None:
    """Load the weights that timm's hub has of it, out of huggingface_hub's cache where they were fetched before.

    Raises ValueError where there are none, FailedError where they cannot be fetched.
    """
    if not timm.is_model_pretrained(name):
        raise ValueError(f"timm has no weights of {name}")
    try:
        backbone.load_state_dict(_made(name, pretrained=True).state_dict())
    except OSError as error:
        raise FailedError(
            f"the weights of {name} cannot be fetched from timm's hub; start from a file of them (safetensors), or fill"
            f" huggingface_hub's cache where there is a network and name it in HF_HUB_CACHE: {error}"
        ) from error


def load_imagenet(backbone: nn.Module, weights: Path) -> None:
    """Load weights in timm's naming (safetensors), with or without their classifier, which a backbone has none of.

    The first convolution's three colours are summed to grey.
    """
    classifier = getattr(backbone, "pretrained_cfg", {}).get("classifier") or ()
    left_out = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    state = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith(left_out)}
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
    try:
        *steps, output = _Units(names).trace(backbone).nodes
    except (AssertionError, AttributeError, TypeError, fx.proxy.TraceError) as error:
        raise ValueError(f"{NO_CHAIN}: {error}") from error
    blocks: dict[str, nn.Module] = {}
    for before, node in zip([None, *steps], [*steps, output], strict=True):
        straight = before is None or node.all_input_nodes == [before]
        if not straight or node.op not in {"placeholder", "call_module", "output"} or len(node.args) > 1:
            raise ValueError(f"{NO_CHAIN}: at {node.name!r}")
        if node.op == "call_module":
            blocks[str(node.target)] = backbone.get_submodule(str(node.target))
    return blocks


def flows(name: str, backbone: nn.Module, stage_map: StageMap | None = None) -> dict[Flow, nn.Sequential]:
    """The backbone's blocks as three sequences that follow one another, sharing its weights.

    Raises ValueError where there is no place to cut, or where the stage map names none.
    """
    blocks = chain(backbone)
    if stage_map is not None:
        *_, (_, maps) = _maps(blocks)
        if maps.ndim != 4 or maps.shape[1] != backbone.head_hidden_size:
            raise ValueError(f"{name} puts out no maps (B, K, h, w) but {tuple(maps.shape)}")
    first = stage_map or STAGE_MAPS.get(name.partition(".")[0]) or _first_by_size(blocks)
    edges = [0, _place(list(blocks), first.middle), _place(list(blocks), first.exit), len(blocks)]
    if sorted(set(edges)) != edges:
        raise ValueError(f"stage_map: {first.middle!r} and {first.exit!r} leave a flow without blocks")
    parts = [list(blocks.values())[start:end] for start, end in pairwise(edges)]
    return {flow: nn.Sequential(*part) for flow, part in zip(FLOWS, parts, strict=True)}


def _place(names: list[str], first: str) -> int:
    """Where the block `first`, or the first of several whose names begin so, stands in the chain."""
    places = [place for place, name in enumerate(names) if f"{name}.".startswith(f"{first}.")]
    if not places:
        raise ValueError(f"stage_map: {first!r} is none of the blocks {', '.join(names)}")
    return places[0]


def _first_by_size(blocks: dict[str, nn.Module]) -> StageMap:
    """The first block of the middle and of the exit flow, by the side of what the blocks put out."""
    first: dict[Flow, str] = {}
    for name, maps in _maps(blocks):
        stride = PROBE_PX / maps.shape[-1]
        if stride > EXIT_STRIDE * 0.75:
            first.setdefault("exit", name)
        elif stride > MIDDLE_STRIDE * 0.75:
            first.setdefault("middle", name)
    if len(first) < 2:
        raise ValueError(
            f"no block has maps of a {MIDDLE_STRIDE}th and a {EXIT_STRIDE}nd of the side; stage_map may name the first "
            f"block of the middle and of the exit flow, out of {', '.join(blocks)}"
        )
    return StageMap(first["middle"], first["exit"])


def _maps(blocks: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """What each block puts out of a small image, one after another."""
    maps: Tensor = torch.zeros(1, 1, PROBE_PX, PROBE_PX)
    for name, block in blocks.items():
        was = block.training
        try:
            with torch.inference_mode():
                maps = block.eval()(maps)
        except AssertionError as error:
            raise ValueError(f"{name} takes no images of {PROBE_PX} px: {error}") from error
        block.train(was)
        yield name, maps
