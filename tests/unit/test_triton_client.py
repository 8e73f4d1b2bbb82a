"""What a Triton's failures mean in our tree, and which addresses a setting stands for."""

import asyncio
import socket

import pytest
from tritonclient.utils import InferenceServerException

from services.core.adapters.addresses import Addresses
from services.core.adapters.triton_client import failure, reason
from services.core.errors import (
    DeadlineExceededError,
    ModelContractError,
    ModelUnavailableError,
    OverloadedError,
)

FIELD = "BONEAGE_TRITON_URL"


def exception(status: str, message: str | None) -> InferenceServerException:
    """What Triton's client raises."""
    return InferenceServerException(msg=message, status=f"StatusCode.{status}")


@pytest.mark.parametrize(
    ("status", "message", "left_s", "kind"),
    [
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", 5, OverloadedError),
        ("RESOURCE_EXHAUSTED", "too much", 5, OverloadedError),
        ("UNAVAILABLE", "Request timeout expired", 5, OverloadedError),
        ("UNAVAILABLE", "Request timeout expired", 0.01, DeadlineExceededError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", 0, DeadlineExceededError),
        ("INVALID_ARGUMENT", "unexpected shape for input 'hand'", 5, ModelContractError),
        ("NOT_FOUND", "Request for unknown model: 'm' is not found", 5, ModelUnavailableError),
        ("UNAVAILABLE", "Request for unknown model: 'm' version 2 is not at ready state", 5, ModelUnavailableError),
        ("UNAVAILABLE", "failed to connect to all addresses", 5, ModelUnavailableError),
        ("INTERNAL", "Failed to process the request(s)", 5, ModelUnavailableError),
        ("UNKNOWN", None, 5, ModelUnavailableError),
    ],
)
def test_a_failure_is_told_by_its_status_and_message(status, message, left_s, kind):
    """Each means one error, whose text names what was asked."""
    error = failure(exception(status, message), what="m version 2", left_s=left_s)
    assert type(error) is kind
    assert "m version 2" in str(error)


def test_a_reason_is_one_line_without_places_of_the_server():
    """Neither stack traces nor folders, but the file's place in the repository."""
    message = (
        "[request id: 7] load failed: Load model from /srv/models/m/3/model.onnx failed:\nparsing, see 1/2 of "
        "http://onnx.ai/a/b/c and /x.py\n\nAt:\n  /opt/model.py(62): load\n"
    )
    assert reason(exception("INTERNAL", message)) == (
        "load failed: Load model from m/3/model.onnx failed: parsing, see 1/2 of http://onnx.ai/a/b/c and x.py"
    )


@pytest.fixture
async def names(monkeypatch):
    """Addresses by name, which a test changes; a name without any cannot be looked up."""
    known: dict[str, list[str]] = {}

    async def look_up(host: str, port: int, **_: object):
        if not known.get(host):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in a], socket.SOCK_STREAM, 6, "", (a, port)) for a in known[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return known


async def test_a_name_stands_for_all_of_its_addresses(names):
    """Each once, in the order of the setting; IPv6 only where there is no IPv4."""
    names |= {"a": ["10.0.0.2", "10.0.0.1", "10.0.0.1", "fd00::1"], "b": ["fd00::2"], "c": ["10.0.0.1"]}
    found = await Addresses("a:1, b:2,c:1", field=FIELD).look_up()
    assert found == ("10.0.0.1:1", "10.0.0.2:1", "[fd00::2]:2")


async def test_addresses_come_and_go_with_their_name(names):
    """What the name says now counts; while it says nothing, what it said last."""
    addresses = Addresses("a:1", field=FIELD)
    assert await addresses.look_up() == ()
    names["a"] = ["10.0.0.1"]
    assert await addresses.look_up() == ("10.0.0.1:1",)
    names["a"] = []
    assert await addresses.look_up() == ("10.0.0.1:1",)
    names["a"] = ["10.0.0.2"]
    assert await addresses.look_up() == ("10.0.0.2:1",)


async def test_addresses_themselves_need_no_name(names):
    """IPv4 as it is, IPv6 in brackets."""
    names |= {"10.0.0.1": ["10.0.0.1"], "fd00::1": ["fd00::1"]}
    assert await Addresses("10.0.0.1:8001,[fd00::1]:8001", field=FIELD).look_up() == ("10.0.0.1:8001", "[fd00::1]:8001")
