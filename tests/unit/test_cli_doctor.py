"""The doctor: each fault is named with its fix."""

import socket

import pytest

from services.cli.doctor import check_ports, check_server, check_settings, port_in_use
from services.cli.environment import check_packages, check_runtime
from services.cli.server import Server


def test_this_environment_has_what_serving_needs() -> None:
    """The checks agree with an environment that runs these tests."""
    assert [finding.name for finding in check_packages() if finding.fault] == []


@pytest.mark.parametrize(
    ("installed", "fix"),
    [
        (["onnxruntime"], ""),
        (["onnxruntime-gpu"], ""),
        ([], "pip install"),
        (["onnxruntime", "onnxruntime-gpu"], "pip uninstall -y onnxruntime onnxruntime-gpu"),
    ],
)
def test_exactly_one_runtime_is_right(installed: list[str], fix: str) -> None:
    """Both packages write the same files, so two of them are one broken one."""
    finding = check_runtime(installed)
    assert finding.fix.startswith(fix)
    assert finding.fault == bool(fix)


def test_a_port_in_use_is_a_fault() -> None:
    """A listening socket is seen, a closed one is not."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert port_in_use(port)
    assert not port_in_use(port)
    assert [finding.fault for finding in check_ports(lambda port: port == 9100)] == [False, True]


def test_an_unknown_setting_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt key is named."""
    monkeypatch.setenv("BONEAGE_GRPC_PROT", "1")
    [finding] = check_settings()
    assert finding.fault
    assert "BONEAGE_GRPC_PROT" in finding.fix


@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_a_fault() -> None:
    """Nothing listens on port 1."""
    finding = await check_server(Server("127.0.0.1:1"))
    assert finding.fault
    assert "boneage serve" in finding.fix
