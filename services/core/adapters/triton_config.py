"""Writes `config.pbtxt`, which both Triton and our own runtime go by, from a model's contract."""

from typing import Final, Literal

from services.core.domain.contracts import ModelContract, TensorSpec

Flavour = Literal["cpu", "gpu"]
INSTANCES: Final[dict[Flavour, str]] = {"cpu": "{ count: 1 kind: KIND_CPU }", "gpu": "{ count: 1 kind: KIND_GPU }"}
QUEUE_DELAY_US: Final = 2000
"""Longest wait for a batch to fill, in microseconds: a hundredth of what the segmenter takes."""


def config_pbtxt(contract: ModelContract, *, flavour: Flavour = "cpu") -> str:
    """The text of `config.pbtxt`, generated once per model name and never edited."""
    lines = [
        f'name: "{contract.name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {contract.max_batch}",
        *(_tensor("input", spec) for spec in contract.inputs),
        *(_tensor("output", spec) for spec in contract.outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}",
        f"instance_group [ {INSTANCES[flavour]} ]",
    ]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, spec: TensorSpec) -> str:
    dims = ", ".join(str(dim) for dim in spec.dims)
    return f'{kind} [ {{ name: "{spec.name}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]'
