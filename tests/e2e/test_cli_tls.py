"""`boneage` against services that speak mutual TLS: by options, and by the variables of a pod."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import cv2
import numpy as np
import pytest

from tests.certificates import Authority, MountedSecret
from tests.models import RELEASE_ID, hand_picture, write_repository
from tests.serving import MODEL_SERVICES, address, child_environment, running


async def boneage(environment, *arguments):
    """Exit code, and what it writes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *map(str, arguments), env={**environment, "COLUMNS": "300"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def chain(tmp_path):
    """All services with the same certificate, and where they are."""
    secret = MountedSecret(tmp_path / "tls", Authority.make(tmp_path / "authority").issue())
    repository = write_repository(tmp_path / "models")
    async with AsyncExitStack() as stack:
        stages = {}
        for name in MODEL_SERVICES:
            process = await stack.enter_async_context(running(name, model_repository=repository, **secret.server()))
            stages[f"{name}_address"] = address(process)
        told = {**stages, **secret.server(), **secret.outgoing()}
        assessment = await stack.enter_async_context(running("assessment", **told))
        yield secret, address(assessment), stages


async def test_commands_answer_through_tls(chain, tmp_path):
    """A radiograph is read, and the doctor finds all services well."""
    secret, server, stages = chain
    cv2.imwrite(str(tmp_path / "hand.png"), np.rint(hand_picture() * 255).astype(np.uint8))
    certificate, key, ca = (secret.folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
    options = ("--server", server, "--ca", ca, "--certificate", certificate, "--key", key, "--json")
    pod = child_environment(**{key.upper(): value for key, value in (stages | secret.outgoing()).items()})
    read, looked = await asyncio.gather(
        boneage(child_environment(), "assess", *options, tmp_path / "hand.png"),
        boneage(pod, "doctor", "--cluster", "--services", "--server", server),
    )
    code, output, errors = read
    assert (code, json.loads(output)["release"]) == (0, RELEASE_ID), errors
    code, output, errors = looked
    assert code == 0, output + errors
    assert output.count("is serving") == 5
