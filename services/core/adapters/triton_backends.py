"""Several Tritons behind one name: which are there, which has what ready, and whose turn it is."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from tritonclient.utils import InferenceServerException

from services.core.adapters.addresses import Addresses
from services.core.adapters.triton_client import connect, is_late
from services.core.errors import ModelUnavailableError

Version = tuple[str, int]
"""A model's name and the number of one of its versions."""

POLL_S: Final = 0.5
POLL_TIMEOUT_S: Final = 0.75
MISSES: Final = 2
"""Polls without an answer in time until a server is taken for gone; one that refuses the connection is so at once."""
LOOK_UP_S: Final = 5.0


class Backend:
    """One Triton, and what is known of it: the versions that were ready when it was last asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = connect(address, keepalive=True)
        self.ready: set[Version] = set()
        self.turns: dict[Version, int] = {}
        self.calls = 0
        self._misses = 0
        self._closed = False

    async def ask(self, versions: Collection[Version]) -> None:
        """Ask which of `versions` are ready here; nothing is, once the connection is closed."""
        if self._closed:  # between the decision to ask and its turn in the event loop
            return
        with self.calling():
            answers = await asyncio.gather(*map(self._is_ready, versions), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if not failures:
            self._misses = 0
            self.ready -= set(versions)
            self.ready |= {version for version, ready in zip(versions, answers, strict=True) if ready is True}
        elif all(isinstance(failure, InferenceServerException) for failure in failures):
            self._missed(late=all(map(is_late, failures)))
        else:
            raise failures[0]

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Counts a call, so that the connection is not closed under it."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    async def close(self) -> None:
        """Close the connection; a call under way ends with an error, so that none should be."""
        self._closed = True
        self.ready.clear()
        await self.client.close()

    async def _is_ready(self, version: Version) -> bool:
        model, number = version
        return bool(await self.client.is_model_ready(model, str(number), client_timeout=POLL_TIMEOUT_S))

    def _missed(self, *, late: bool) -> None:
        self._misses += 1
        if not late or self._misses >= MISSES:
            self.ready.clear()


class Backends:
    """All Tritons of a setting; `wanted` gives the versions that are to be followed."""

    def __init__(self, places: str, wanted: Callable[[], Iterable[Version]]) -> None:
        self._addresses = Addresses(places, field="BONEAGE_TRITON_URL")
        self._wanted = wanted
        self._known: dict[str, Backend] = {}
        self._leaving: list[Backend] = []
        self._asking: dict[Version, asyncio.Task[None]] = {}
        self._numbers = count(1)
        self._polled = asyncio.Event()

    def with_all(self, versions: Iterable[Version]) -> list[Backend]:
        """Those that had all of these versions ready when they were last asked."""
        needed = set(versions)
        return [backend for backend in self._known.values() if needed <= backend.ready]

    async def choose(self, version: Version, *, tried: Collection[Backend]) -> Backend:
        """The next in turn with that version ready, one that was not tried if there is one.

        Where none is known to be ready all are asked. Raises ModelUnavailableError.
        """
        if not self.with_all([version]):
            await self._ask_all(version)
        ready = self.with_all([version])
        if not ready:
            model, number = version
            raise ModelUnavailableError(f"{model} version {number} is ready in none of {len(self._known)} Tritons")
        untried = [backend for backend in ready if backend not in tried]
        chosen = min(untried or ready, key=lambda backend: backend.turns.get(version, 0))
        chosen.turns[version] = next(self._numbers)
        return chosen

    async def follow(self) -> None:
        """Look for servers, and ask them what they have ready, until cancelled."""
        await self._look_up()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_addresses())
            group.create_task(self._follow_versions())

    async def until_polled(self) -> None:
        """Wait until all servers were asked again."""
        await self._polled.wait()

    async def close(self) -> None:
        """Close all connections."""
        for asking in self._asking.values():
            asking.cancel()
        for backend in (*self._known.values(), *self._leaving):
            await backend.close()

    async def _follow_addresses(self) -> None:
        while True:
            await asyncio.sleep(LOOK_UP_S)
            await self._look_up()

    async def _follow_versions(self) -> None:
        while True:
            versions = frozenset(self._wanted())
            await asyncio.gather(*(backend.ask(versions) for backend in self._known.values()))
            self._polled.set()
            self._polled = asyncio.Event()
            await asyncio.sleep(POLL_S)

    async def _look_up(self) -> None:
        """Connect to servers that came, and leave those that went once no call of ours is left there."""
        addresses = await self._addresses.look_up()
        self._leaving += [backend for address, backend in self._known.items() if address not in addresses]
        self._known = {address: self._known.get(address) or Backend(address) for address in addresses}
        for backend in [backend for backend in self._leaving if not backend.calls]:
            self._leaving.remove(backend)
            await backend.close()

    async def _ask_all(self, version: Version) -> None:
        """Ask all servers for one version; callers who want to know the same at once ask but once."""
        if version not in self._asking:
            asking = self._asking[version] = asyncio.create_task(self._ask(version))
            asking.add_done_callback(lambda _: self._asking.pop(version))
        await asyncio.shield(self._asking[version])

    async def _ask(self, version: Version) -> None:
        if not self._known:
            await self._look_up()
        await asyncio.gather(*(backend.ask([version]) for backend in self._known.values()))
