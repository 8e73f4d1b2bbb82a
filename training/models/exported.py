"""Weights out of an exported version, so that training goes on from any release and needs no checkpoint of it."""

from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from services.core.domain.contracts import ModelContract
from training.models.regressor import TransferNetwork

EXPORTED: Final = ".onnx"
UNREADABLE: Final = (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError, DecodeError)
"""What loading weights, of a run or of a version, raises where they are another network's, or none."""
FOLDED_BIAS: Final = ".weight_bias"
COUNTER: Final = "num_batches_tracked"
MEMBERS: Final = "network.members."


def load_exported(network: nn.Module, path: Path, example: Tensor, *, prefix: str = "") -> None:
    """Give `network` the weights of the ONNX file that was exported from it, where its names begin with `prefix`.

    A batch norm that the export folded into the convolution before it comes back as that offset alone: the network
    computes the same, but its statistics are gone until `restore_statistics` takes them again: before that, only a
    network in evaluation mode is what it was. `example` (B, ...) is an input; it shows which batch norm follows which
    convolution.

    Raises ValueError where the file is of another network, OSError where there is none.
    """
    initializers = onnx.load(str(path)).graph.initializer
    # A copy: what onnx gives may be read-only.
    found = {i.name.removeprefix(prefix): np.array(numpy_helper.to_array(i)) for i in initializers}
    state = network.state_dict()
    for convolution, norm in folded_pairs(network, example):
        offset = found.get(convolution + FOLDED_BIAS)
        if offset is None or f"{norm}.running_mean" in found:
            continue
        if f"{norm}.running_mean" not in state or f"{norm}.weight" not in state:
            raise ValueError(f"{path}: the batch norm {norm} has no weights or statistics of its own to take it back")
        epsilon = getattr(network.get_submodule(norm), "eps")  # noqa: B009 -- a Module's attributes are not typed
        found |= {
            f"{norm}.weight": np.full_like(offset, np.sqrt(1 + epsilon)), f"{norm}.bias": offset,
            f"{norm}.running_mean": np.zeros_like(offset), f"{norm}.running_var": np.ones_like(offset),
        }  # fmt: skip
    wanted = [name for name in state if not name.endswith(COUNTER)]
    if wrong := [name for name in wanted if name not in found or found[name].shape != tuple(state[name].shape)]:
        raise ValueError(f"{path} is no export of this network: {len(wrong)} weights differ, {wrong[0]} first")
    network.load_state_dict(state | {name: torch.from_numpy(found[name]) for name in wanted})


def restore_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch norms without statistics the mean and variance of what they take in, and weights that do as before.

    In evaluation mode the network computes what it computed; in training, where a batch norm goes by the batch, it
    does so too, as nearly as a batch is like all of `batches`, which are inputs (B, ...).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and _has_none(module)]
    if not norms:
        return
    sums: dict[nn.Module, Tensor] = {}

    def seen(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)  # double: a variance is a small difference of large sums
        count = torch.full_like(values[:, 0], values.shape[1])
        sums[norm] = sums.get(norm, 0) + torch.stack([count, values.sum(dim=1), values.square().sum(dim=1)])

    training, handles = network.training, [norm.register_forward_pre_hook(seen) for norm in norms]
    try:
        with torch.inference_mode():
            network.eval()
            for batch in batches:
                network(batch)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    for norm in norms:
        if norm in sums:
            count, total, squares = sums[norm]
            mean = total / count
            _restate(norm, mean, (squares / count - mean.square()).clamp(min=0))


def _has_none(norm: nn.BatchNorm2d) -> bool:
    """Whether its statistics are those that it was made with, or that `load_exported` gave it."""
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and not mean.any() and bool((variance == 1).all())


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Other statistics, the same function."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    with torch.no_grad():
        norm.bias.add_(slope * (mean - norm.running_mean))
        norm.weight.copy_(slope * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def load_exported_reader(
    network: TransferNetwork, path: Path, example: Tensor, *, contract: ModelContract, scale: float, offset: float
) -> bool:
    """Give `network` the weights of a published reader: those of its backbone as `load_exported` does, and its head.

    The head comes back only from a file of this `contract`, whose outputs are the head's times `scale` plus `offset`;
    from another it stays as it is, being that of another question. Returns whether it came back.
    """
    graph = onnx.load(str(path)).graph
    if any(initializer.name.startswith(MEMBERS) for initializer in graph.initializer):
        raise ValueError(f"{path} is the mean of several networks, which none of them can go on from; name one's own")
    load_exported(network.backbone, path, example, prefix="network.backbone.")
    if [output.name for output in graph.output] != [output.name for output in contract.outputs]:
        return False
    _, activation, bias, _ = (output.name for output in contract.outputs)
    count = network.head.out_features
    weight = _behind(graph, activation, (count, network.head.in_features, 1, 1))[:, :, 0, 0] / scale
    offsets = (_behind(graph, bias, (count,)) - offset) / scale
    network.head.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(offsets)})
    return True


def _behind(graph: onnx.GraphProto, output: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The nearest initializer of this shape that an output is computed from; the export renames the head's."""
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    makers = {made: node for node in graph.node for made in node.output}
    nearest = [output]
    for name in nearest:
        if name in initializers and tuple(initializers[name].dims) == shape:
            return np.array(numpy_helper.to_array(initializers[name]))
        if name in makers:
            nearest += [source for source in makers[name].input if source not in nearest]
    raise ValueError(f"nothing of shape {shape} lies behind {output}")


def folded_pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of each convolution and of the batch norm that takes its output as it is."""
    names = {module: name for name, module in network.named_modules()}
    made: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no identity is given twice
    pairs: list[tuple[str, str]] = []

    def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = names[module]
            kept.append(output)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])], names[module]))

    handles = [module.register_forward_hook(seen) for module in network.modules()]
    training = network.training
    try:
        with torch.inference_mode():
            network.eval()(example)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return pairs
