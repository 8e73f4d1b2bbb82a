"""Inference on several real Tritons: shared evenly, lost, come back, joined, full of callers who went away."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from services.core.adapters import triton_backends
from services.core.adapters.inference_triton import TritonInference
from services.core.domain.contracts import ENHANCER, REGRESSOR
from services.core.errors import (
    BoneageError,
    ConfigurationError,
    DeadlineExceededError,
    ModelUnavailableError,
)
from tests.models import write_repository
from tests.serving import http, running
from tests.triton import Triton, following, tritons
from tests.versions import add_version, slow_enhancer
from tests.waiting import until

SLOW = 2
CLIENTS = 4
BATCH = 8
HAND = {"hand": np.full((1, 1, 224, 224), 0.5, np.float32)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A repository of tiny models, with a version of the enhancer that takes half a second or more."""
    root = write_repository(tmp_path_factory.mktemp("models"))
    add_version(root, ENHANCER, SLOW, slow_enhancer())
    return root


@pytest.fixture
def pair(root, tmp_path):
    """Two servers with the regressor loaded."""
    with tritons(root, tmp_path, count=2) as servers:
        for server in servers:
            server.load(REGRESSOR, 1)
        yield servers


@pytest.fixture
def busy(root, tmp_path):
    """One server with the slow version loaded."""
    with tritons(root, tmp_path) as [server]:
        server.load(ENHANCER, SLOW)
        yield server


def inference_on(*servers: Triton) -> TritonInference:
    """An adapter that follows the regressor."""
    return TritonInference(",".join(server.address for server in servers), lambda: [(REGRESSOR, 1)])


@dataclass
class Load:
    """What clients that call all the time came to."""

    answered: int = 0
    failures: list[BoneageError] = field(default_factory=list)


@asynccontextmanager
async def calling(inference: TritonInference) -> AsyncIterator[Load]:
    """Several clients that ask the regressor, each again as soon as it is answered."""
    load, stopped = Load(), asyncio.Event()

    async def client() -> None:
        while not stopped.is_set():
            try:
                await inference.infer(REGRESSOR, 1, HAND, timeout_s=10)
                load.answered += 1
            except BoneageError as error:
                load.failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        yield load
        stopped.set()


async def more(load: Load, calls: int = 50) -> None:
    """Wait for some more answers."""
    enough = load.answered + calls
    await until(lambda: load.answered >= enough)


def answered(server: Triton) -> int:
    """Calls that a server answered, its warm-up among them."""
    return server.count("request_success", REGRESSOR)


async def test_calls_go_round(pair):
    """Of a hundred calls each of two servers answers fifty."""
    before = [answered(server) for server in pair]
    async with following(inference_on(*pair)) as inference:
        for _ in range(100):
            await inference.infer(REGRESSOR, 1, HAND)
    assert [answered(server) - count for server, count in zip(pair, before, strict=True)] == [50, 50]


@pytest.mark.parametrize("end", [Triton.kill, Triton.stop], ids=["killed", "stopped"])
async def test_a_lost_server_costs_no_call(pair, end):
    """One of two goes under load, killed or told to: all calls are answered, and it gets its share when it is back."""
    lost = pair[1]
    async with following(inference_on(*pair)) as inference, calling(inference) as load:
        await more(load)
        await asyncio.to_thread(end, lost)
        await more(load)
        await asyncio.to_thread(lost.start)
        await more(load)
        await asyncio.to_thread(lost.load, REGRESSOR, 1)
        loaded = await asyncio.to_thread(answered, lost)
        await until(lambda: answered(lost) > loaded + 20)
    assert load.failures == []


async def test_without_any_server_calls_fail_soon_and_clearly(pair):
    """Both killed: unavailable, well within the deadline; both back: answered again by the same adapter."""
    async with following(inference_on(*pair)) as inference:
        for server in pair:
            server.kill()
        async with asyncio.timeout(5):
            with pytest.raises(ModelUnavailableError, match=f"{REGRESSOR} version 1 is ready in none of 2 Tritons"):
                await inference.infer(REGRESSOR, 1, HAND, timeout_s=60)
        await until(lambda: not inference.have_all([(REGRESSOR, 1)]), timeout_s=3)
        for server in pair:
            await asyncio.to_thread(server.start)
        assert not await inference.ready(REGRESSOR, 1)
        await asyncio.to_thread(pair[0].load, REGRESSOR, 1)
        await until(lambda: inference.have_all([(REGRESSOR, 1)]), timeout_s=3)
        assert await inference.infer(REGRESSOR, 1, HAND)


async def test_a_server_that_hangs_is_not_ready(pair):
    """It takes the connection and never answers; when it goes on, so does its share."""
    async with following(inference_on(pair[0])) as inference:
        with pair[0].frozen():
            await until(lambda: not inference.have_all([(REGRESSOR, 1)]), timeout_s=6)
            with pytest.raises(BoneageError) as caught:
                await inference.infer(REGRESSOR, 1, HAND, timeout_s=0.5)
            assert isinstance(caught.value, (DeadlineExceededError, ModelUnavailableError))
        await until(lambda: inference.have_all([(REGRESSOR, 1)]), timeout_s=6)


async def test_a_server_that_joins_gets_its_share(pair):
    """It was in the list all the time, and is found when it starts."""
    first, late = pair
    late.kill()
    async with following(inference_on(first, late)) as inference, calling(inference) as load:
        await more(load)
        await asyncio.to_thread(late.start)
        await asyncio.to_thread(late.load, REGRESSOR, 1)
        await until(lambda: len(inference._backends.with_all([(REGRESSOR, 1)])) == 2)
        before = [answered(server) for server in pair]
        await more(load, 100)
        shares = [answered(server) - count for server, count in zip(pair, before, strict=True)]
    assert load.failures == []
    assert max(shares) <= 1.2 * min(shares)


async def test_a_name_is_followed_to_the_servers_that_it_stands_for(root, tmp_path, monkeypatch):
    """One address is replaced by another under load: no call fails, and the old server is left alone."""
    monkeypatch.setattr(triton_backends, "LOOK_UP_S", 0.1)
    old = Triton(root, tmp_path / "old.log", host="127.0.0.1")
    new = Triton(root, tmp_path / "new.log", host="127.0.0.2", grpc_port=old.grpc_port)
    hosts = {old.host}

    async def look_up(_: str, port: int, **__: object):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with loaded(old, new):
        inference = TritonInference(f"tritons:{old.grpc_port}", lambda: [(REGRESSOR, 1)])
        async with following(inference), calling(inference) as load:
            await more(load)
            hosts.add(new.host)
            await until(lambda: answered(new) > 20)
            hosts.remove(old.host)
            await until(lambda: inference._backends._leaving == [] and len(inference._backends._known) == 1)
            before = answered(old)
            await more(load)
            assert answered(old) == before
    assert load.failures == []


@contextmanager
def loaded(*servers: Triton) -> Iterator[None]:
    """The servers, with the regressor loaded, while the context lasts."""
    try:
        for server in servers:
            server.start()
            server.load(REGRESSOR, 1)
        yield
    finally:
        for server in servers:
            server.kill()


async def test_a_version_that_nobody_announced_is_asked_for(busy):
    """It is found when it is used, though it is not followed."""
    inference = inference_on(busy)
    try:
        answer = await inference.infer(ENHANCER, SLOW, HAND)
        np.testing.assert_allclose(answer["enhanced"], 0.5, rtol=1e-5)
    finally:
        await inference.close()


@asynccontextmanager
async def occupied(server: Triton) -> AsyncIterator[TritonInference]:
    """An adapter to a server whose two instances are busy, with a third batch waiting; all three are answered."""
    full = {"hand": np.tile(HAND["hand"], (BATCH, 1, 1, 1))}
    async with following(inference_on(server)) as inference:
        running = [asyncio.create_task(inference.infer(ENHANCER, SLOW, full)) for _ in range(3)]
        await until(lambda: pending(server) == 1)
        yield inference
        assert len(await asyncio.gather(*running)) == 3


def pending(server: Triton) -> int:
    """Requests that wait in the queue."""
    return server.count("pending_request_count", ENHANCER)


def executed(server: Triton) -> int:
    """Images that went through the model."""
    return server.count("count", ENHANCER)


async def test_who_goes_away_while_he_waits_is_never_run(busy):
    """Two wait behind long batches and are cancelled: the server drops them and runs nothing of them."""
    before = executed(busy)
    async with occupied(busy) as inference:
        waiting = [asyncio.create_task(inference.infer(ENHANCER, SLOW, HAND)) for _ in range(2)]
        await until(lambda: pending(busy) == 3)
        for task in waiting:
            task.cancel()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    await until(lambda: pending(busy) == 0 and executed(busy) - before >= 3 * BATCH)  # it counts after it has answered
    assert executed(busy) - before == 3 * BATCH


async def test_what_waits_until_its_time_is_up_is_never_run(busy):
    """Two wait behind long batches for less than those take: they are told so, and nothing of them is run."""
    before = executed(busy)
    async with occupied(busy) as inference:
        waiting = [asyncio.create_task(inference.infer(ENHANCER, SLOW, HAND, timeout_s=0.2)) for _ in range(2)]
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [DeadlineExceededError] * 2
    await until(lambda: pending(busy) == 0 and executed(busy) - before >= 3 * BATCH)  # it counts after it has answered
    assert executed(busy) - before == 3 * BATCH


@pytest.mark.parametrize("places", ["", "triton", "triton:x", "triton:8001,", "http://triton:8001"])
def test_a_place_that_is_none_is_refused_by_name(places):
    """Before anything is started, and with the setting that it comes from."""
    with pytest.raises(ConfigurationError, match="is not HOST:PORT") as caught:
        TritonInference(places, list)
    assert caught.value.field == "BONEAGE_TRITON_URL"


async def test_a_service_says_what_is_true_of_its_model(root, pair):
    """NOT_SERVING while no server has the version of its release, SERVING while one has, without a restart of it."""
    first, second = pair
    places = f"{first.address},{second.address}"
    async with running("regression", model_repository=root, inference="triton", triton_url=places) as process:
        assert (await http(process, "/readyz"))[0] == 200
        first.kill()
        await asyncio.to_thread(second.stop)
        async with asyncio.timeout(3):
            await process.health.until(serving=False)
        assert (await http(process, "/readyz"))[0] == 503
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(first.load, REGRESSOR, 1)
        async with asyncio.timeout(3):
            await process.health.until(serving=True)
