"""How a channel to one of the services is opened: balanced, watched, kept alive, retried within bounds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from services.client.tls import RenewedChannel, Tls
from services.core.adapters.wire_errors import from_call_error

ATTEMPTS: Final = 3
MAXIMUM_MESSAGE_BYTES: Final = 64 * 2**20
KEEPALIVE_S: Final = 3
KEEPALIVE_TIMEOUT_S: Final = 4
CONNECT_TIMEOUT_S: Final = 3

Options = list[tuple[str, int | str]]
KEEPALIVE: Final[Options] = [
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    # gRPC pings by itself when it sends data, waits a minute for that answer, and sends no other ping meanwhile.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.http2.max_pings_without_data", 0),  # any number: a call may take long, and the watch of the health does
    ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_S * 1000),  # which is how long connecting may take
]
"""A node that is lost says nothing. Whoever waits for it has time left for another, also twice, in nested calls."""


def connect(address: str, service: str, *, tls: Tls | None = None, attempts: int = ATTEMPTS) -> grpc.aio.Channel:
    """A channel to `service` (its full name) at `address` (HOST:PORT, where HOST may stand for several servers).

    Calls go in turn to all servers that say SERVING; one that ends with UNAVAILABLE, or that a server which stops cuts
    off, is tried `attempts` times in all.
    """
    return open_channel(address, channel_options(service, attempts=attempts), tls=tls)


def open_channel(address: str, options: Options, *, tls: Tls | None = None) -> grpc.aio.Channel:
    """A channel with these options, over TLS where its files are given; certificates that change are taken up."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options)
    return RenewedChannel(tls, lambda credentials: grpc.aio.secure_channel(address, credentials, options))


def channel_options(service: str, *, attempts: int) -> Options:
    """Channel arguments, the service config among them."""
    return [
        ("grpc.service_config", json.dumps(service_config(service, attempts=attempts))),
        ("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAXIMUM_MESSAGE_BYTES),
        # What does not fit in the buffer is never retried, and a radiograph is larger than the default of 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", MAXIMUM_MESSAGE_BYTES),
        *KEEPALIVE,
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # New servers behind a name are found when a connection ages, so the name must be asked again by then.
        ("grpc.dns_min_time_between_resolutions_ms", 5000),
        ("grpc.enable_http_proxy", 0),
    ]


def service_config(service: str, *, attempts: int) -> dict[str, object]:
    """Balancing, health checking and retries; gRPC adds 20% of jitter to each wait, and the deadline bounds all."""
    retry = {
        "maxAttempts": attempts,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        # A server that is being stopped ends with CANCELLED what reaches it in its last moment; what the caller himself
        # cancels is not tried again.
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    method = {"name": [{"service": service}], **({"retryPolicy": retry} if attempts > 1 else {})}
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": service},
        "methodConfig": [method],
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
    }


@contextmanager
def calling() -> Iterator[None]:
    """Turns the failure of a call inside the context into the error of our tree that it stands for."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_call_error(error) from error
