"""Ports for servers that must be told theirs before they listen."""

import random
import socket

LOOPBACK = "127.0.0.1"
HANDED_OUT_FROM = 32_768
"""Above, the system itself gives ports to whoever asks for any: one that is free now may be another's at once."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on, nor is given by chance."""
    for port in random.SystemRandom().sample(range(20_000, HANDED_OUT_FROM), 100):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
