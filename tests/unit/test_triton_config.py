"""What Triton is told of a model: both forms say the same, and parse with Triton's own schema."""

import json

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup, ModelQueuePolicy

from services.core.adapters.triton_config import config_json, config_pbtxt
from services.core.domain.contracts import CONTRACTS, REGRESSOR, SEGMENTER
from services.core.runtime.settings import EMBEDDED_REPOSITORY

every_model = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
every_flavour = pytest.mark.parametrize("flavour", ["cpu", "gpu"])


def parsed(text: str) -> ModelConfig:
    """A `config.pbtxt` by Triton's schema, which refuses any field that it does not have."""
    return text_format.Parse(text, ModelConfig())


@every_model
@every_flavour
def test_both_forms_differ_in_the_versions_alone(contract, flavour):
    """The file serves all versions; a load request serves those that it names and changes nothing else."""
    file = parsed(config_pbtxt(contract, flavour=flavour))
    request = json_format.Parse(config_json(contract, flavour=flavour, versions={12, 3}), ModelConfig())
    assert file.version_policy.WhichOneof("policy_choice") == "all"
    assert list(request.version_policy.specific.versions) == [3, 12]
    request.version_policy.CopyFrom(file.version_policy)
    assert file == request


@every_model
@every_flavour
def test_tensors_are_those_of_the_contract(contract, flavour):
    """Names, sizes without the batch, and the largest batch."""
    config = parsed(config_pbtxt(contract, flavour=flavour))
    assert (config.name, config.backend, config.max_batch_size) == (contract.name, "onnxruntime", contract.max_batch)
    for tensors, specs in ((config.input, contract.inputs), (config.output, contract.outputs)):
        assert [(tensor.name, tuple(tensor.dims)) for tensor in tensors] == [(spec.name, spec.dims) for spec in specs]


def test_a_full_queue_refuses_and_a_request_may_ask_for_less_time():
    """What Triton does where more comes in than it can answer."""
    batching = parsed(config_pbtxt(CONTRACTS[REGRESSOR])).dynamic_batching
    assert list(batching.preferred_batch_size) == [4, 8]
    policy = batching.default_queue_policy
    assert policy.max_queue_size > 0
    assert policy.timeout_action == ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds > 0
    assert policy.allow_timeout_override


@every_flavour
def test_a_queue_with_a_limit_has_two_instances_and_no_delay(flavour):
    """Or Triton sleeps through what it has to do (docs/adr/0007)."""
    config = parsed(config_pbtxt(CONTRACTS[REGRESSOR], flavour=flavour))
    assert config.instance_group[0].count == 2
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_a_version_is_warmed_up_before_it_is_ready():
    """By one picture of zeros for each input."""
    [warmup] = parsed(config_pbtxt(CONTRACTS[SEGMENTER])).model_warmup
    assert warmup.batch_size == 1
    assert warmup.inputs["radiograph"].zero_data
    assert tuple(warmup.inputs["radiograph"].dims) == (1, 256, 256)


def test_the_flavour_decides_where_a_model_runs():
    """On the processor with a number of threads of its own, on a GPU by TensorRT in half precision."""
    cpu, gpu = (parsed(config_pbtxt(CONTRACTS[REGRESSOR], flavour=flavour)) for flavour in ("cpu", "gpu"))
    assert cpu.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    assert int(cpu.parameters["intra_op_thread_count"].string_value) > 0
    assert gpu.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    [accelerator] = gpu.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["precision_mode"] == "FP16"
    assert accelerator.parameters["trt_engine_cache_enable"] == "1"
    assert accelerator.parameters["trt_engine_cache_path"].endswith(REGRESSOR)
    assert accelerator.parameters["trt_profile_max_shapes"] == "hand:8x1x224x224"


def test_the_load_request_is_plain_json():
    """Triton reads it as the JSON of its own schema, with the schema's names."""
    assert json.loads(config_json(CONTRACTS[REGRESSOR], versions=[1]))["version_policy"] == {
        "specific": {"versions": [1]}
    }


def test_the_embedded_release_has_what_is_generated():
    """Nobody edited the files beside the embedded models."""
    files = {path.parent.name: path.read_text() for path in EMBEDDED_REPOSITORY.glob("*/config.pbtxt")}
    assert files
    assert files == {name: config_pbtxt(CONTRACTS[name]) for name in files}
