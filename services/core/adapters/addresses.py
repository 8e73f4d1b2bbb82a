"""Where the servers of a setting are: each name in it stands for all of its addresses, which come and go."""

import asyncio
import re
import socket
from contextlib import suppress
from ipaddress import ip_address
from itertools import chain
from typing import Final

from services.core.errors import ConfigurationError

PLACE: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:,\[\]]+):(?P<port>[0-9]{1,5})")
FORMS: Final = {socket.AF_INET: "{}:{}", socket.AF_INET6: "[{}]:{}"}
Place = tuple[str, int]


class Addresses:
    """The addresses of "HOST:PORT[,HOST:PORT...]", as the setting `field` has it.

    Raises ConfigurationError for anything else.
    """

    def __init__(self, places: str, *, field: str) -> None:
        self._places = [_place(text.strip(), field) for text in places.split(",")]
        self._known: dict[Place, list[str]] = {}

    async def look_up(self) -> tuple[str, ...]:
        """All addresses now, as HOST:PORT, each once; a name that cannot be looked up keeps those that it had."""
        for place in self._places:
            with suppress(OSError):
                self._known[place] = await _look_up(*place)
        return tuple(dict.fromkeys(chain.from_iterable(self._known.values())))

    def name_of(self, address: str) -> str:
        """The name that an address was looked up by; empty for one that was given as it is."""
        hosts = (host for (host, _), found in self._known.items() if address in found)
        return next((host.rstrip(".") for host in hosts if not _is_address(host)), "")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _look_up(host: str, port: int) -> list[str]:
    """The IPv4 addresses of a name, or the IPv6 ones where it has no others: both would name each server twice."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = {family: sorted({str(address[0]) for kind, *_, address in found if kind == family}) for family in FORMS}
    family = socket.AF_INET if hosts[socket.AF_INET] else socket.AF_INET6
    return [FORMS[family].format(address, port) for address in hosts[family]]


def _place(text: str, field: str) -> Place:
    match = PLACE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{text!r} is not HOST:PORT", field=field)
    return match["host"].strip("[]"), int(match["port"])
