"""An enhancer that gives back what it is given, after as many multiplications as a test needs it to take time."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.core.domain.contracts import CONTRACTS, ENHANCER
from tests.models import OPSET

MULTIPLICATIONS = 400
"""Of a matrix of the hand's size with the unit matrix: about half a second on a slow core."""


def slow_enhancer(multiplications: int = MULTIPLICATIONS) -> onnx.ModelProto:
    """The hand times the unit matrix, again and again, in a loop that no optimiser unrolls."""
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
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _hand(name: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *dims])
