"""Versions that a test adds to a repository by itself: an enhancer that takes its time, a file that is no model."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.core.domain.contracts import CONTRACTS, ENHANCER
from tests.models import OPSET

MULTIPLICATIONS = 400
"""Of a matrix of the hand's size with the unit matrix: about half a second on a slow core."""


def add_version(root: Path, name: str, version: int, content: bytes) -> None:
    """A version with a card that describes it, in place all at once; nothing checks the model."""
    partial, target = root / f".{name}-{version}", root / name / str(version)
    partial.mkdir()
    (partial / "model.onnx").write_bytes(content)
    card = {"model": name, "version": version, "model_sha256": sha256(content).hexdigest()}
    (partial / "card.json").write_text(json.dumps(card))
    partial.rename(target)


def slow_enhancer(multiplications: int = MULTIPLICATIONS) -> bytes:
    """The hand as it is, after a loop of products with the unit matrix that no optimiser unrolls."""
    contract = CONTRACTS[ENHANCER]
    [source], [target] = contract.inputs, contract.outputs
    size = source.dims[-1]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "unit"], ["after"]),
            helper.make_node("Identity", ["going"], ["going_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            _hand("before", source.dims),
        ],
        [helper.make_tensor_value_info("going_on", TensorProto.BOOL, []), _hand("after", source.dims)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "", source.name], [target.name], body=body)],
        "slow",
        [_hand(source.name, source.dims)],
        [_hand(target.name, target.dims)],
        [
            numpy_helper.from_array(np.asarray(multiplications, np.int64), "times"),
            numpy_helper.from_array(np.eye(size, dtype=np.float32), "unit"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(model.SerializeToString())


def _hand(name: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *dims])
