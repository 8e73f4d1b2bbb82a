"""Having versions loaded by a real Triton: added and removed under load, refused with a reason, guarded by a key."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.core.adapters.inference_triton import TritonInference
from services.core.adapters.triton_host import TritonHost
from services.core.domain.contracts import CLASSIFIER, ENHANCER, REGRESSOR, SEGMENTER
from services.core.errors import ModelContractError, ModelUnavailableError
from tests.models import OPSET, write_repository
from tests.triton import KEY, Triton, following, tritons
from tests.versions import add_version, slow_enhancer
from tests.waiting import until

HAND = {"hand": np.full((1, 1, 224, 224), 0.5, np.float32)}


@pytest.fixture
def root(tmp_path):
    """A repository of tiny models, with a second version of the enhancer."""
    root = write_repository(tmp_path / "models")
    add_version(root, ENHANCER, 2, slow_enhancer(2))
    return root


@pytest.fixture
def server(root, tmp_path):
    """A server with nothing loaded."""
    with tritons(root, tmp_path) as [server]:
        yield server


@pytest.fixture
async def host(server):
    """The host of that server, which has its key."""
    host = host_of(server)
    yield host
    await host.close()


def host_of(*servers: Triton, key: str = KEY) -> TritonHost:
    """A host of several servers."""
    return TritonHost(",".join(server.address for server in servers), key=key, flavour="cpu")


def identity(name: str, shape: list[str | int]) -> bytes:
    """A model that gives back one tensor."""
    tensors = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape) for tensor in (name, "enhanced")]
    node = helper.make_node("Identity", [name], ["enhanced"])
    graph = helper.make_graph([node], "identity", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@asynccontextmanager
async def calling(server: Triton, version: int):
    """Calls of one version, one after the other, none of which fails, until the context ends."""
    async with following(TritonInference(server.address, lambda: [(ENHANCER, version)])) as inference:
        stopped = asyncio.Event()

        async def client() -> int:
            calls = 0
            while not stopped.is_set():
                await inference.infer(ENHANCER, version, HAND, timeout_s=10)
                calls += 1
            return calls

        task = asyncio.create_task(client())
        yield
        stopped.set()
        assert await task > 0


async def test_versions_come_and_go_without_a_failed_call(server, host):
    """Those that stay answer all the time; what is served is what was asked for last."""
    [backend] = await host.backends()
    assert backend == server.address
    assert await host.served(backend) == frozenset()
    await host.serve(backend, ENHANCER, frozenset({1}))
    await host.serve(backend, REGRESSOR, frozenset({1}))
    assert await host.served(backend) == {(ENHANCER, 1), (REGRESSOR, 1)}
    async with calling(server, 1):
        await host.serve(backend, ENHANCER, frozenset({1, 2}))
        assert await host.served(backend) == {(ENHANCER, 1), (ENHANCER, 2), (REGRESSOR, 1)}
        async with calling(server, 2):
            await host.serve(backend, REGRESSOR, frozenset())
        await host.serve(backend, ENHANCER, frozenset({1}))
    assert await host.served(backend) == {(ENHANCER, 1)}


async def test_what_is_not_loaded_can_be_unloaded(server, host):
    """Nothing is to be served, and nothing is."""
    await host.serve(server.address, ENHANCER, frozenset())
    assert await host.served(server.address) == frozenset()


async def test_a_version_that_comes_later_is_awaited(root, server, host):
    """It is unavailable until it is in the repository, and served from then on; the first one goes on meanwhile."""
    await host.serve(server.address, ENHANCER, frozenset({1}))
    async with calling(server, 1):
        for wanted in ({3}, {1, 3}):
            with pytest.raises(ModelUnavailableError):
                await host.serve(server.address, ENHANCER, frozenset(wanted))
        assert await host.served(server.address) == {(ENHANCER, 1)}
        add_version(root, ENHANCER, 3, slow_enhancer(1))
        await host.serve(server.address, ENHANCER, frozenset({1, 3}))
    assert await host.served(server.address) == {(ENHANCER, 1), (ENHANCER, 3)}


async def test_a_model_that_is_not_there_is_awaited(server, host):
    """A repository without any version of a model may get it yet."""
    with pytest.raises(ModelUnavailableError):
        await host.serve(server.address, CLASSIFIER, frozenset({1}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a model", r"version 3 .* radiograph_enhancer/3/model.onnx failed"),
        (identity("picture", ["batch", 1, 224, 224]), r"version 3 .* has inputs \['picture'\], not \['hand'\]"),
        (identity("hand", ["batch", 1, 200, 200]), r"version 3 .* input hand is .*200.*, not float32 \[1, 224, 224\]"),
    ],
    ids=["no model", "another name", "another size"],
)
async def test_a_wrong_model_is_refused_with_its_reason(root, server, host, content, reason):
    """The reason names no place outside of the repository; what is served goes on."""
    add_version(root, ENHANCER, 3, content)
    await host.serve(server.address, ENHANCER, frozenset({1}))
    async with calling(server, 1):
        with pytest.raises(ModelContractError, match=reason) as caught:
            await host.serve(server.address, ENHANCER, frozenset({1, 3}))
    assert str(root) not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert await host.served(server.address) == {(ENHANCER, 1)}


@pytest.mark.parametrize("key", ["", "another key"])
async def test_without_the_key_nothing_is_changed(server, host, key):
    """Neither looked at nor loaded."""
    stranger = host_of(server, key=key)
    for call in (
        stranger.served(server.address),
        stranger.serve(server.address, SEGMENTER, frozenset({1})),
        stranger.serve(server.address, SEGMENTER, frozenset()),
    ):
        with pytest.raises(ModelUnavailableError, match="does not take our key"):
            await call
    await stranger.close()
    assert await host.served(server.address) == frozenset()


async def test_a_server_that_is_away_is_unavailable_and_found_again(server, host):
    """Its address stays in the list; when it is back, it is told to load."""
    await host.serve(server.address, SEGMENTER, frozenset({1}))
    server.kill()
    assert await host.backends() == (server.address,)
    with pytest.raises(ModelUnavailableError):
        await host.served(server.address)
    with pytest.raises(ModelUnavailableError):
        await host.serve(server.address, SEGMENTER, frozenset({1}))
    await asyncio.to_thread(server.start)
    await until(partial(answers, host, server))
    assert await host.served(server.address) == frozenset()
    await host.serve(server.address, SEGMENTER, frozenset({1}))
    assert await host.served(server.address) == {(SEGMENTER, 1)}


async def answers(host: TritonHost, server: Triton) -> bool:
    """Whether the server can be reached again."""
    try:
        await host.served(server.address)
    except ModelUnavailableError:
        return False
    return True
