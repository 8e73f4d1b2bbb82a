"""`boneage serve --store` as a person runs it: published releases answer, move, and a token is at hand."""

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager

import cv2
import numpy as np
import pytest

from services.core.adapters.store import Store
from tests.models import hand_picture, publish_tiny, tiny_release
from tests.serving import child_environment
from tests.waiting import until

FIRST, SECOND = "tiny-1", "tiny-2"


@asynccontextmanager
async def serving(*options, **settings):
    """`boneage serve` with these options; gives the two commands that it names, as lists of arguments."""
    command = (sys.executable, "-m", "services.cli", "serve", "--port", "0", *options)
    environment = {k: v for k, v in child_environment(**settings).items() if not k.endswith(("GRPC_PORT", "HTTP_PORT"))}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        told = []
        async with asyncio.timeout(120):
            while len(told) < 2:
                line = (await process.stdout.readline()).decode()
                assert line, "it ended"
                told += [line.split(": boneage ")[1].split()] if ": boneage " in line else []
        yield told
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def boneage(*arguments):
    """Exit code and output of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *arguments, env=child_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


@pytest.fixture
def picture(tmp_path):
    """A drawn hand as a file."""
    path = tmp_path / "hand.png"
    cv2.imwrite(str(path), np.rint(hand_picture() * 255).astype(np.uint8))
    return str(path)


async def test_a_store_is_served_and_its_releases_move(tmp_path, picture):
    """What is printed is what to type: assess, then promote with the token that is there."""
    store = Store(str(tmp_path / "store"))
    publish_tiny(store, tiny_release(FIRST))
    publish_tiny(store, tiny_release(SECOND, version=2), current=False)
    async with serving("--store", str(tmp_path / "store")) as (assess, releases):

        async def answering():
            code, out, errors = await boneage(*assess[:-1], picture, "--json")
            assert code == 0, errors
            return json.loads(out)[0]["release"] if out.startswith("[") else json.loads(out)["release"]

        assert await answering() == FIRST
        code, out, errors = await boneage(*releases[:-1], "promote", SECOND)
        assert (code, out) == (0, f"current {SECOND}, previous {FIRST}\n"), errors

        async def moved():
            return await answering() == SECOND

        await until(moved)
    assert store.read("releases/current") == f"{SECOND}\n".encode()


async def test_a_store_that_is_not_there_ends_with_its_reason(tmp_path):
    """No release to serve: the command says what is missing, once its patience is over."""
    code, _, errors = await boneage("serve", "--store", "nowhere://bucket", "--port", "0")
    assert code == 1
    assert "no client for nowhere:// is installed" in errors
    assert "Traceback" not in errors
