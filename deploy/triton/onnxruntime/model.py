"""An ONNX Runtime backend for a Triton that was built without one, as the CPU builds on PyPI are.

It stands beside Triton's `python` backend as `BACKENDS/onnxruntime/model.py` and serves the same `config.pbtxt`
(`backend: "onnxruntime"`) that Triton's own backend serves in production. Only the CPU flavour is supported here.
"""

import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

TYPES = {"TYPE_FP32": np.float32}


class TritonPythonModel:
    """One instance of one version of a model."""

    @staticmethod
    def auto_complete_config(config):
        """The configuration is complete: it is generated from the contract."""
        return config

    def initialize(self, args):
        """Load the version; an error here is why Triton says that it cannot be loaded."""
        config = json.loads(args["model_config"])
        path = os.path.join(args["model_repository"], args["model_version"], config["default_model_filename"] or "model.onnx")
        options = onnxruntime.SessionOptions()
        parameters = config.get("parameters", {})
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", {}).get("string_value", 0) or 1)
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self._check(config)

    def _check(self, config):
        """Names must be those of the configuration, as Triton's own backend demands."""
        for kind, wanted, found in (
            ("input", self.inputs, self.session.get_inputs()),
            ("output", self.outputs, self.session.get_outputs()),
        ):
            names = {tensor.name for tensor in found}
            if kind == "input" and names != set(wanted) or not names >= set(wanted):
                raise pb_utils.TritonModelException(f"the model has {kind}s {sorted(names)}, not {sorted(wanted)}")

    def execute(self, requests):
        """Run what the dynamic batcher put together as one batch."""
        parts = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        sizes = [len(part[self.inputs[0]]) for part in parts]
        feed = {name: np.concatenate([part[name] for part in parts]) for name in self.inputs}
        results = self.session.run(self.outputs, feed)
        ends = np.cumsum(sizes)[:-1]
        rows = [np.split(result, ends) for result in results]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, np.ascontiguousarray(row[i])) for name, row in zip(self.outputs, rows)]
            )
            for i in range(len(requests))
        ]
