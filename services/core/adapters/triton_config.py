"""What Triton is told of a model, from its contract: the text of `config.pbtxt` and the JSON of a load request.

The field names are those of Triton's `model_config.proto`. The GPU flavour is checked for form only: it parses, but has
never run.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from services.core.domain.contracts import SEGMENTER, ModelContract, TensorSpec

Flavour = Literal["cpu", "gpu"]
Fields = dict[str, Any]

INSTANCES: Final = 2
"""Of each version. A Triton whose queue has a limit does not notice that its only instance has become free: up to half
a second passes until it looks again (docs/adr/0007)."""
QUEUE_DELAY_US: Final = 0
"""Longest wait for a batch to fill, in microseconds. Batches fill while the instances are busy; any more than 0 lets
Triton lose count of idle instances, until it stops (docs/adr/0007)."""
QUEUE_SIZE: Final = 16
"""Requests that may wait; as many as a service lets in."""
QUEUE_TIMEOUT_US: Final = 10_000_000
"""Longest wait in the queue, in microseconds; a request asks for less where its caller has less time."""
THREADS: Final = {SEGMENTER: 2}
"""Threads of one inference on the CPU where more than 1: a pod's share is not what ONNX Runtime would count."""
ENGINES: Final = "/var/cache/boneage/tensorrt"
"""Where TensorRT keeps the engines that it builds, each in its model's folder."""
FILE: Final = "model.onnx"


class Word(str):
    """A word of the schema (an enumerated value), which stands without quotes in the text."""

    __slots__ = ()


class Named(dict[str, Any]):
    """A map of the schema, whose keys are data; in the text each entry is a key and a value."""


def config_pbtxt(contract: ModelContract, *, flavour: Flavour = "cpu") -> str:
    """The text of `config.pbtxt`, generated once per model name and never edited; it serves all versions."""
    return "".join(line + "\n" for line in _lines(config(contract, flavour=flavour)))


def config_json(contract: ModelContract, *, flavour: Flavour = "cpu", versions: Iterable[int]) -> str:
    """The configuration that a load request puts in the place of `config.pbtxt`: it serves `versions` only."""
    fields = config(contract, flavour=flavour)
    return json.dumps({**fields, "version_policy": {"specific": {"versions": sorted(versions)}}})


def config(contract: ModelContract, *, flavour: Flavour) -> Fields:
    """The fields of the configuration that both forms are written from."""
    return {
        "name": contract.name,
        "backend": "onnxruntime",
        "default_model_filename": FILE,
        "max_batch_size": contract.max_batch,
        "input": [_tensor(spec) for spec in contract.inputs],
        "output": [_tensor(spec) for spec in contract.outputs],
        "version_policy": {"all": {}},
        "dynamic_batching": _batching(contract),
        "model_warmup": [_warmup(contract)],
        **(_on_cpu(contract) if flavour == "cpu" else _on_gpu(contract)),
    }


def _tensor(spec: TensorSpec) -> Fields:
    return {"name": spec.name, "data_type": Word("TYPE_FP32"), "dims": list(spec.dims)}


def _batching(contract: ModelContract) -> Fields:
    """Batches of half and whole size; whoever finds the queue full is refused at once."""
    sizes = sorted({max(1, contract.max_batch // 2), contract.max_batch} - {1})
    queue = {
        "timeout_action": Word("REJECT"),
        "default_timeout_microseconds": QUEUE_TIMEOUT_US,
        "allow_timeout_override": True,
        "max_queue_size": QUEUE_SIZE,
    }
    return {
        "preferred_batch_size": sizes,
        "max_queue_delay_microseconds": QUEUE_DELAY_US,
        "default_queue_policy": queue,
    }


def _warmup(contract: ModelContract) -> Fields:
    """One request of zeros before a version is ready, so that the first caller does not pay for what is done once."""
    inputs = {
        spec.name: {"data_type": Word("TYPE_FP32"), "dims": list(spec.dims), "zero_data": True}
        for spec in contract.inputs
    }
    return {"name": "zeros", "batch_size": 1, "inputs": Named(inputs)}


def _on_cpu(contract: ModelContract) -> Fields:
    threads = {"intra_op_thread_count": {"string_value": str(THREADS.get(contract.name, 1))}}
    return {"instance_group": [{"count": INSTANCES, "kind": Word("KIND_CPU")}], "parameters": Named(threads)}


def _on_gpu(contract: ModelContract) -> Fields:
    """TensorRT in FP16 with its engines kept; what it cannot run falls to CUDA, which GPU instances always have.

    Engines are built for a range of shapes, or each new size of batch would build another.
    """
    parameters = {
        "precision_mode": "FP16",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"{ENGINES}/{contract.name}",
        "trt_profile_min_shapes": _shapes(contract, batch=1),
        "trt_profile_opt_shapes": _shapes(contract, batch=contract.max_batch),
        "trt_profile_max_shapes": _shapes(contract, batch=contract.max_batch),
    }
    accelerator = {"name": "tensorrt", "parameters": Named(parameters)}
    return {
        "instance_group": [{"count": INSTANCES, "kind": Word("KIND_GPU")}],
        "optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}},
    }


def _shapes(contract: ModelContract, *, batch: int) -> str:
    return ",".join(f"{spec.name}:{'x'.join(map(str, (batch, *spec.dims)))}" for spec in contract.inputs)


def _lines(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The text format of protocol buffers."""
    for name, value in fields.items():
        for item in _items(value):
            if isinstance(item, dict):
                yield f"{indent}{name} {{"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{name}: {item if isinstance(item, Word) else json.dumps(item)}"


def _items(value: Any) -> list[Any]:
    """What stands under one name, each time with the name before it; numbers stand in one list."""
    match value:
        case Named():
            return [{"key": key, "value": item} for key, item in value.items()]
        case [dict(), *_]:
            return list(value)
        case _:
            return [value]
