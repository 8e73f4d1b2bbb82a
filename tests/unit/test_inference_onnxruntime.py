"""Inference in this process: answers, contracts, waiting, refusing and running out of time, on real models."""

import asyncio
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.core.adapters import inference_onnxruntime
from services.core.adapters.inference_onnxruntime import OnnxRuntimeInference, open_session
from services.core.adapters.model_repository import model_file
from services.core.domain.contracts import CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER
from services.core.errors import (
    DeadlineExceededError,
    ModelContractError,
    ModelUnavailableError,
    OverloadedError,
    ReleaseError,
)
from tests.models import BIAS_MONTHS, MONTHS_PER_BRIGHTNESS, OPSET, write_repository


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A repository of tiny models."""
    return write_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture
def inference(root):
    """All three models, with room for two calls to wait."""
    return OnnxRuntimeInference(root, {name: [1] for name in (SEGMENTER, ENHANCER, REGRESSOR)}, threads=1, queue=2)


@pytest.fixture
def held(monkeypatch):
    """Inference that waits, in its thread, until the test lets it go on; `begun` counts those that began."""

    class Held:
        def __init__(self):
            self.release, self.begun = threading.Event(), threading.Semaphore(0)

        def run(self, session, inputs):
            self.begun.release()
            assert self.release.wait(30)
            return run(session, inputs)

        async def until_begun(self):
            assert await asyncio.to_thread(self.begun.acquire, timeout=30)

    run, gate = inference_onnxruntime.run, Held()
    monkeypatch.setattr(inference_onnxruntime, "run", gate.run)
    yield gate
    gate.release.set()


def hands(batch: int = 1, brightness: float = 0.5):
    """A batch of plain hands."""
    return {"hand": np.full((batch, 1, 224, 224), brightness, np.float32)}


async def test_a_batch_is_answered_by_name(inference):
    """Every output comes by its name, one row for each image, as the model computes it."""
    outputs = await inference.infer(REGRESSOR, 1, hands(3))
    assert set(outputs) == {spec.name for spec in CONTRACTS[REGRESSOR].outputs}
    expected = np.array(BIAS_MONTHS) + 0.5 * np.array(MONTHS_PER_BRIGHTNESS)
    np.testing.assert_allclose(outputs["age_months"], np.tile(expected, (3, 1)), rtol=1e-6)
    assert outputs["activation"].shape == (3, 3, 7, 7)
    assert outputs["typicality"].dtype == np.float32


async def test_pixels_of_another_type_or_order_are_taken(inference):
    """What is not contiguous float32 is made so."""
    crossed = hands()["hand"].astype(np.float64).transpose(0, 1, 3, 2)
    outputs = await inference.infer(ENHANCER, 1, {"hand": crossed})
    np.testing.assert_allclose(outputs["enhanced"], 0.5)


async def test_only_what_is_loaded_is_ready_and_answers(inference):
    """A version that is not loaded is neither ready nor asked."""
    assert await inference.ready(SEGMENTER, 1)
    assert not await inference.ready(SEGMENTER, 2)
    with pytest.raises(ModelUnavailableError, match="version 2 is not loaded"):
        await inference.infer(SEGMENTER, 2, {})


@pytest.mark.parametrize(
    "inputs",
    [{}, {"other": np.zeros((1, 1, 224, 224))}, hands(0), hands(9), {"hand": np.zeros((1, 1, 225, 224))}],
    ids=["nothing", "another name", "no image", "too many", "another size"],
)
async def test_inputs_that_break_the_contract_are_refused(inference, inputs):
    """A batch of another name, size or shape never reaches the model."""
    with pytest.raises(ModelContractError, match="input hand has shape"):
        await inference.infer(REGRESSOR, 1, inputs)


async def test_one_more_than_the_queue_holds_is_refused_at_once(inference, held):
    """One runs, two wait, the next is told so; those that waited are answered."""
    running = [asyncio.create_task(inference.infer(REGRESSOR, 1, hands())) for _ in range(3)]
    await held.until_begun()
    with pytest.raises(OverloadedError, match="2 inferences"):
        await inference.infer(REGRESSOR, 1, hands())
    held.release.set()
    assert len(await asyncio.gather(*running)) == 3
    assert await inference.infer(REGRESSOR, 1, hands())


async def test_the_event_loop_stays_free_while_a_model_runs(inference, held):
    """What else the process has to do goes on meanwhile."""
    running = asyncio.create_task(inference.infer(REGRESSOR, 1, hands()))
    await held.until_begun()
    assert await inference.ready(REGRESSOR, 1)
    assert not running.done()
    held.release.set()
    await running


async def test_one_inference_runs_at_a_time(inference, held):
    """The second begins only when the first is done, so that memory for one is enough."""
    tasks = [asyncio.create_task(inference.infer(name, 1, hands())) for name in (REGRESSOR, ENHANCER)]
    await held.until_begun()
    assert not held.begun.acquire(blocking=False)
    held.release.set()
    await asyncio.gather(*tasks)


async def test_what_waits_longer_than_its_time_never_begins(inference, held):
    """A call whose time is up while another runs is told so, and its place is free again."""
    running = asyncio.create_task(inference.infer(REGRESSOR, 1, hands()))
    await held.until_begun()
    for _ in range(5):
        with pytest.raises(DeadlineExceededError, match="no time left"):
            await inference.infer(REGRESSOR, 1, hands(), timeout_s=0.01)
    held.release.set()
    await running
    assert not held.begun.acquire(blocking=False)


async def test_no_time_at_all_is_no_time(inference):
    """A deadline that has passed is told before anything runs."""
    with pytest.raises(DeadlineExceededError):
        await inference.infer(REGRESSOR, 1, hands(), timeout_s=-1)


async def test_a_caller_that_goes_away_frees_its_place(inference, held):
    """A cancelled call that waits leaves; one that runs is finished before the next begins."""
    running = asyncio.create_task(inference.infer(REGRESSOR, 1, hands()))
    await held.until_begun()
    waiting = asyncio.create_task(inference.infer(REGRESSOR, 1, hands()))
    await asyncio.sleep(0)
    waiting.cancel()
    running.cancel()
    held.release.set()
    done = await asyncio.gather(running, waiting, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in done)
    assert await inference.infer(REGRESSOR, 1, hands())


def test_a_missing_version_is_unavailable(root):
    """A version that is not in the repository cannot be loaded."""
    with pytest.raises(ModelUnavailableError, match="no version 5"):
        OnnxRuntimeInference(root, {SEGMENTER: [5]}, threads=1, queue=1)


def test_damaged_weights_are_not_loaded(tmp_path):
    """Weights that are not those of their card are refused."""
    write_repository(tmp_path)
    path = model_file(tmp_path, SEGMENTER, 1)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ReleaseError, match="damaged"):
        OnnxRuntimeInference(tmp_path, {SEGMENTER: [1]}, threads=1, queue=1)


def test_what_is_no_model_breaks_the_contract():
    """A file that ONNX Runtime cannot load is told as such."""
    with pytest.raises(ModelContractError, match="no model that loads"):
        open_session(b"not a model", CONTRACTS[SEGMENTER], threads=1)


@pytest.mark.parametrize(
    ("name", "shape", "kind", "reason"),
    [
        ("picture", ["batch", 1, 256, 256], TensorProto.FLOAT, "has inputs"),
        ("radiograph", ["batch", 1, 128, 128], TensorProto.FLOAT, "input radiograph is"),
        ("radiograph", ["batch", 256, 256], TensorProto.FLOAT, "input radiograph is"),
        ("radiograph", ["batch", 1, 256, 256], TensorProto.DOUBLE, "input radiograph is"),
    ],
)
def test_other_tensors_break_the_contract(name, shape, kind, reason):
    """A model with another name, size, rank or type of tensor is refused when it is loaded."""
    weights = _identity(name, shape, kind).SerializeToString()
    with pytest.raises(ModelContractError, match=reason):
        open_session(weights, CONTRACTS[SEGMENTER], threads=1)


def _identity(name: str, shape: list[str | int], kind: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["hand_probability"])],
        "identity",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("hand_probability", kind, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
