"""What pipelines rely on of any `Inference`: one set of tests for ONNX Runtime in process and for a real Triton."""

import asyncio
import time

import numpy as np
import pytest

from services.core.adapters.inference_onnxruntime import OnnxRuntimeInference
from services.core.adapters.inference_triton import TritonInference
from services.core.domain.contracts import CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER
from services.core.errors import DeadlineExceededError, ModelContractError, ModelUnavailableError, OverloadedError
from tests.models import BIAS_MONTHS, MONTHS_PER_BRIGHTNESS, write_repository
from tests.triton import following, tritons
from tests.versions import add_version, slow_enhancer

SLOW = 2
VERSIONS = {SEGMENTER: [1], ENHANCER: [1, SLOW], REGRESSOR: [1]}
MORE_THAN_WAIT = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A repository of tiny models, with a version of the enhancer that takes its time."""
    root = write_repository(tmp_path_factory.mktemp("models"))
    add_version(root, ENHANCER, SLOW, slow_enhancer(100))
    return root


@pytest.fixture(scope="module")
def triton(root, tmp_path_factory):
    """A server with all versions loaded."""
    with tritons(root, tmp_path_factory.mktemp("triton")) as [server]:
        for model, versions in VERSIONS.items():
            server.load(model, *versions)
        yield server


@pytest.fixture(params=["onnxruntime", "triton"])
async def inference(request, root):
    """Either adapter, with all versions ready and room for a few calls to wait."""
    if request.param == "onnxruntime":
        yield OnnxRuntimeInference(root, VERSIONS, threads=1, queue=3)
        return
    server = request.getfixturevalue("triton")
    pairs = [(model, version) for model, versions in VERSIONS.items() for version in versions]
    async with following(TritonInference(server.address, lambda: pairs)) as inference:
        yield inference


def hands(batch: int = 1, brightness: float = 0.5):
    """A batch of plain hands."""
    return {"hand": np.full((batch, 1, 224, 224), brightness, np.float32)}


async def test_a_batch_is_answered_by_name(inference):
    """Every output comes by its name as float32, one row for each image, as the model computes it."""
    outputs = await inference.infer(REGRESSOR, 1, hands(3))
    assert set(outputs) == {spec.name for spec in CONTRACTS[REGRESSOR].outputs}
    assert {value.dtype for value in outputs.values()} == {np.dtype(np.float32)}
    expected = np.array(BIAS_MONTHS) + 0.5 * np.array(MONTHS_PER_BRIGHTNESS)
    np.testing.assert_allclose(outputs["age_months"], np.tile(expected, (3, 1)), rtol=1e-6)
    assert outputs["activation"].shape == (3, 3, 7, 7)


@pytest.mark.parametrize("batch", [1, 2, 7, 8])
async def test_rows_stay_in_their_order(inference, batch):
    """Up to the largest batch, each image is answered in its place."""
    brightness = np.linspace(0, 1, batch, dtype=np.float32)
    outputs = await inference.infer(REGRESSOR, 1, {"hand": np.tile(brightness[:, None, None, None], (1, 1, 224, 224))})
    np.testing.assert_allclose(outputs["typicality"][:, 0], brightness, atol=1e-4)


async def test_pixels_of_another_type_or_order_are_taken(inference):
    """What is not contiguous float32 is made so."""
    picture = np.random.default_rng(1).random((1, 1, 224, 224))
    outputs = await inference.infer(ENHANCER, 1, {"hand": picture.transpose(0, 1, 3, 2)})
    np.testing.assert_allclose(outputs["enhanced"], picture.transpose(0, 1, 3, 2), atol=1e-6)


async def test_calls_at_the_same_time_are_not_mixed_up(inference):
    """Who asks together with others, perhaps in one batch, gets his own answer."""
    calls = [inference.infer(ENHANCER, 1, hands(brightness=value)) for value in (0.1, 0.2, 0.3)]
    answers = await asyncio.gather(*calls)
    assert [answer["enhanced"][0, 0, 0, 0] for answer in answers] == pytest.approx([0.1, 0.2, 0.3])


async def test_only_what_is_loaded_is_ready_and_answers(inference):
    """A version that is not loaded is neither ready nor asked."""
    assert await inference.ready(SEGMENTER, 1)
    assert not await inference.ready(SEGMENTER, 2)
    with pytest.raises(ModelUnavailableError, match="hand_segmenter version 2"):
        await inference.infer(SEGMENTER, 2, {"radiograph": np.zeros((1, 1, 256, 256))}, timeout_s=5)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"other": np.zeros((1, 1, 224, 224))}, hands(0), hands(9), {"hand": np.zeros((1, 1, 225, 224))}],
    ids=["nothing", "another name", "no image", "too many", "another size"],
)
async def test_inputs_that_break_the_contract_are_refused(inference, inputs):
    """A batch of another name, size or shape never reaches the model."""
    with pytest.raises(ModelContractError, match="input hand has shape"):
        await inference.infer(REGRESSOR, 1, inputs)


@pytest.mark.parametrize("timeout_s", [-1, 0, 0.005])
async def test_who_has_no_time_is_told_so(inference, timeout_s):
    """Whether the time is up already or while the model runs."""
    with pytest.raises(DeadlineExceededError, match="no time left"):
        await inference.infer(ENHANCER, SLOW, hands(8), timeout_s=timeout_s)


async def test_more_than_can_wait_are_refused_at_once(inference):
    """Those are told so while half of the others still wait for their answers, which come."""
    ended_s: dict[str, list[float]] = {"answered": [], "refused": []}

    async def ask() -> None:
        try:
            await inference.infer(ENHANCER, SLOW, hands())
        except OverloadedError:
            ended_s["refused"].append(time.monotonic())
        else:
            ended_s["answered"].append(time.monotonic())

    await asyncio.gather(*(ask() for _ in range(MORE_THAN_WAIT)))
    assert ended_s["refused"]
    assert ended_s["answered"]
    assert max(ended_s["refused"]) < sorted(ended_s["answered"])[len(ended_s["answered"]) // 2]


async def test_a_caller_that_goes_away_frees_its_place(inference):
    """Of many that wait and are cancelled none keeps the next from being answered."""
    for _ in range(3):
        tasks = [asyncio.create_task(inference.infer(ENHANCER, SLOW, hands())) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert await inference.infer(ENHANCER, SLOW, hands())
