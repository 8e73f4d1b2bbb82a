"""Tries which places can be reached from where it runs: `knock.py HOST:PORT...` prints {PLACE: "open" or why not}."""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

TIMEOUT_S = 4.0


def knock(place: str) -> str:
    """What a TCP connection comes to."""
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S):
            return "open"
    except OSError as error:
        return type(error).__name__


if __name__ == "__main__":
    places = sys.argv[1:]
    with ThreadPoolExecutor(16) as pool:
        print(json.dumps(dict(zip(places, pool.map(knock, places), strict=True))))
