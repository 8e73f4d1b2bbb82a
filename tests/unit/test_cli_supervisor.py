"""How the services of one group share a machine."""

import pytest

from services.cli.supervisor import command_of, inherited_environment, is_serving, thread_budget


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_the_segmenter_gets_the_cores(cores: int) -> None:
    """It has nearly all of the work; every other service gets a thread."""
    assert thread_budget(cores) == {"segmentation": cores, "enhancement": 1, "regression": 1, "cam": 1}


def test_a_group_talks_in_the_clear_over_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of TLS do not reach the children, other settings do."""
    monkeypatch.setenv("BONEAGE_TLS_KEY_FILE", "/key.pem")
    monkeypatch.setenv("BONEAGE_MODEL_REPOSITORY", "/models")
    environment = inherited_environment()
    assert "BONEAGE_TLS_KEY_FILE" not in environment
    assert environment["BONEAGE_MODEL_REPOSITORY"] == "/models"


def test_services_run_as_modules_of_this_interpreter() -> None:
    """No script has to be on the path."""
    assert command_of("cam")[1:] == ["-m", "services.cam"]


async def test_a_closed_port_is_not_serving() -> None:
    """A refused connection is an answer, not an error."""
    assert not await is_serving("127.0.0.1:1", timeout_s=1)
