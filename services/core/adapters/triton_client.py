"""How a Triton is called: the connection to one address, and what its failures mean in our tree."""

import re
from typing import Final

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.core.errors import (
    BoneageError,
    DeadlineExceededError,
    ModelContractError,
    ModelUnavailableError,
    OverloadedError,
)

MAXIMUM_MESSAGE_BYTES: Final = 64 * 2**20
KEEPALIVE_S: Final = 20
KEEPALIVE_TIMEOUT_S: Final = 5
CHANNEL: Final = (
    ("grpc.max_send_message_length", MAXIMUM_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES),
    # A server that comes back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
)
KEEPALIVE: Final = (
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
)
"""Triton cuts off who pings it oftener than it answers calls: only for who calls it all the time."""

STATUSES: Final[dict[str, type[BoneageError]]] = {
    "StatusCode.INVALID_ARGUMENT": ModelContractError,
    "StatusCode.DEADLINE_EXCEEDED": DeadlineExceededError,
    "StatusCode.RESOURCE_EXHAUSTED": OverloadedError,
}
"""Anything else (not connected, not ready, no such version, broken) means that this server does not answer for it."""
QUEUE_FULL: Final = "Exceeds maximum queue size"
QUEUE_TIMEOUT: Final = "Request timeout expired"
TIME_LEFT_S: Final = 0.1
"""Who waited in vain with more time left than this was held up by the queue's own limit."""

NOISE: Final = re.compile(r"\[request id: [^\]]*\] |\n\nAt:\n.*", re.DOTALL)
FILE: Final = re.compile(r"(?<![\w./:])/[^\s:'\"]+")
KEPT_PARTS: Final = 3


def connect(address: str, *, keepalive: bool = False) -> InferenceServerClient:
    """A client of the one server at `address`; it connects when it is first used, and again when it is cut off."""
    return InferenceServerClient(address, channel_args=[*CHANNEL, *(KEEPALIVE if keepalive else ())])


def is_late(error: InferenceServerException) -> bool:
    """Whether there was no answer in time, which says less than a refusal."""
    return bool(error.status() == "StatusCode.DEADLINE_EXCEEDED")


def failure(error: InferenceServerException, *, what: str, left_s: float) -> BoneageError:
    """The error of our tree that the failed call of `what` stands for, its caller having `left_s` seconds left."""
    text = reason(error)
    if QUEUE_FULL in text:
        return OverloadedError(f"the queue of {what} is full")
    if QUEUE_TIMEOUT in text and left_s > TIME_LEFT_S:
        return OverloadedError(f"{what} waited for its turn for as long as the queue lets it")
    if QUEUE_TIMEOUT in text or is_late(error):
        return DeadlineExceededError(f"no time left for {what}")
    kind = STATUSES.get(str(error.status()), ModelUnavailableError)
    return kind(f"{what}: {text}")


def reason(error: InferenceServerException) -> str:
    """What the server says, in one line: without stack traces, and files only by where they lie in the repository."""
    text = FILE.sub(lambda file: "/".join(file[0].split("/")[1:][-KEPT_PARTS:]), NOISE.sub("", error.message() or ""))
    return " ".join(text.split()) or "no reason given"
