"""An ONNX Runtime backend for a Triton that was built without one, as those on package registries are.

Triton finds it as BACKENDS/onnxruntime/model.py beside its `python` backend, and serves by it the same `config.pbtxt`
(`backend: "onnxruntime"`) that its own backend of that name serves elsewhere. It computes on the CPU only.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

THREADS: Final = "intra_op_thread_count"
FLOAT32: Final = "tensor(float)"


class TritonPythonModel:
    """One instance of one version of a model; the name and the methods are Triton's."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """The configuration as it is: it is generated from the contract, and complete."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version. What is raised here is Triton's reason why it cannot be loaded."""
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        path = Path(args["model_repository"], args["model_version"], config["default_model_filename"])
        self.session = load_session(path, threads=int(config["parameters"][THREADS]["string_value"]))
        check_tensors("input", config["input"], self.session.get_inputs())
        check_tensors("output", config["output"], self.session.get_outputs())

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run what the dynamic batcher put together as one batch."""
        parts = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs] for request in requests
        ]
        feed = {name: np.concatenate(rows) for name, rows in zip(self.inputs, zip(*parts, strict=True), strict=True)}
        results = self.session.run(self.outputs, feed)
        return list(self._answers(results, sizes=[len(part[0]) for part in parts]))

    def _answers(self, results: Sequence[np.ndarray], *, sizes: Sequence[int]) -> Iterator[Any]:
        """The rows of each request."""
        ends = np.cumsum(sizes)[:-1]
        for rows in zip(*(np.split(result, ends) for result in results), strict=True):
            yield triton.InferenceResponse([triton.Tensor(*named) for named in zip(self.outputs, rows, strict=True)])


def load_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Load a file as the services do it in process; 0 threads are as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    # Spinning threads take the cores from the other models between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_tensors(kind: str, wanted: Sequence[Any], found: Sequence[Any]) -> None:
    """Refuse a model whose tensors have other names, types or shapes (after the batch) than the configuration says."""
    by_name = {node.name: node for node in found}
    names = sorted(tensor["name"] for tensor in wanted)
    if sorted(by_name) != names:
        raise triton.TritonModelException(f"the model has {kind}s {sorted(by_name)}, not {names}")
    for tensor in wanted:
        node, dims = by_name[tensor["name"]], tensor["dims"]
        if node.type != FLOAT32 or len(node.shape) != 1 + len(dims) or not all(map(_fits, dims, node.shape[1:])):
            reason = f"{kind} {node.name} is {node.type} {node.shape}, not float32 {dims}"
            raise triton.TritonModelException(reason)


def _fits(wanted: int, found: int | str | None) -> bool:
    return wanted == -1 or not isinstance(found, int) or found == wanted
