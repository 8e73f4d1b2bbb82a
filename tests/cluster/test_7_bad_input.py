"""What is wrong is said by `helm install --wait`, which ends with an error, and says what to do."""

import pytest

from tests.cluster.authority import NAME, SERVING
from tests.cluster.conftest import phase
from tests.cluster.system import System

CASES = {
    "misspelt value": (("volumes",), ("--set=defaults.replcas=2",), ("replcas",)),
    "missing secret": (
        ("volumes",), ("--set=callers.existingSecret=nobody",), ("nobody", "kubectl create secret", "callers.json"),
    ),
    "no graphics card": (
        ("volumes", "triton", "too-many-gpus"), (), ("nvidia.com/gpu", "inference.runtime=onnxruntime"),
    ),
    "store that cannot be written": (
        ("s3",), ("--set=store.s3.writerSecret=store-reader",), ("write, read and delete",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def nothing(system: System) -> None:
    """Nothing is installed, whatever a test before has left."""
    system.uninstall()


@pytest.mark.parametrize("case", CASES)
def test_it_ends_with_what_to_do(system: System, case: str) -> None:
    """Within three minutes, with nothing half installed that a second try would stumble over."""
    names, options, expected = CASES[case]
    with phase(f"bad input: {case}"):
        done = system.try_install(*names, options=options, timeout_s=180)
    assert done.code != 0
    assert [word for word in expected if word not in done.said] == [], done.said
    assert system.cluster.items("deployment", SERVING) == []
    system.helm("uninstall", NAME, "--wait", "--ignore-not-found", check=False)


def test_an_installed_system_is_told_too_and_goes_on(system: System) -> None:
    """An upgrade that is refused changes nothing that runs."""
    system.install("volumes")
    system.ready()
    before = {pod["metadata"]["uid"] for pod in system.cluster.pods(SERVING)}
    done = system.try_install("volumes", options=("--set=defaults.replcas=2",), timeout_s=60)
    assert done.code != 0
    assert {pod["metadata"]["uid"] for pod in system.cluster.pods(SERVING)} == before
    system.uninstall()
