"""`boneage serve --inference triton` as a user runs it, with a real Triton behind it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.core.domain.contracts import ENHANCER, REGRESSOR, SEGMENTER
from tests.models import BIAS_MONTHS, hand_picture, write_repository
from tests.triton import tritons

TIMEOUT_S = 120
MODELS = (SEGMENTER, ENHANCER, REGRESSOR)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of tiny models."""
    return write_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """An environment whose services have the tiny models."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("BONEAGE_")}
    return {**own, "BONEAGE_MODEL_REPOSITORY": str(root), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def boneage(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_a_radiograph_is_read_by_triton(root: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Each model runs once for it, by Triton's own counters, and on Triton alone."""
    hand = tmp_path / "hand.png"
    cv2.imwrite(str(hand), np.rint(hand_picture() * 255).astype(np.uint8))
    with tritons(root, tmp_path) as [triton]:
        for model in MODELS:
            triton.load(model, 1)
        before = {model: triton.count("exec_count", model) for model in MODELS}
        command = [sys.executable, "-m", "services.cli", "serve", "--port", "0", "--inference", "triton"]
        command += ["--triton-url", triton.address]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            address = next(line.split()[5] for line in process.stdout if line.startswith("assess with:"))
            run = boneage(environment, "assess", hand, "--json", "--server", address)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        assert {model: triton.count("exec_count", model) - count for model, count in before.items()} == dict.fromkeys(
            MODELS, 1
        )
    assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout)
    assert (record["status"], record["age_months"] > BIAS_MONTHS[2]) == ("OK", True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["serve", "--inference", "triton"], "--triton-url HOST:PORT"),
        (["serve", "regression", "--inference", "triton"], "--triton-url HOST:PORT"),
        (["serve", "--triton-url", "triton:8001"], "--inference triton"),
        (["serve", "--inference", "torch"], "--inference"),
    ],
)
def test_half_a_choice_is_wrong_usage(environment: dict[str, str], arguments: list[str], reason: str) -> None:
    """Exit code 2 with what is missing, before anything is started."""
    run = boneage(environment, *arguments)
    assert run.returncode == 2
    assert reason in run.stderr


def test_a_place_that_is_none_ends_the_services(environment: dict[str, str]) -> None:
    """One service by itself says which setting is wrong."""
    run = boneage(environment, "serve", "regression", "--port", "0", "--inference", "triton", "--triton-url", "nowhere")
    assert run.returncode == 1
    assert "BONEAGE_TRITON_URL: 'nowhere' is not HOST:PORT" in run.stderr + run.stdout
