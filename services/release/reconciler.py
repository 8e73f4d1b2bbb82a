"""Brings every runtime to what the routing needs, again and again: one that was away is made whole by itself."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.core.errors import BoneageError, ModelContractError, ModelUnavailableError
from services.release.ports import ModelHost, Version

WAKE_S: Final = 0.05
"""Rest between two looks of somebody who waits for a release to be ready."""


@dataclass(slots=True)
class Backend:
    """What is known of one runtime since the last round."""

    served: frozenset[Version] = frozenset()
    reachable: bool = False
    faults: dict[Version, str] = field(default_factory=dict)


class Reconciler:
    """Has the versions that `needed` names answer on every backend of `host`.

    What is needed no more stays for `unload_delay_s`, until the last call that began under it has ended.
    """

    def __init__(
        self,
        host: ModelHost,
        needed: Callable[[], frozenset[Version]],
        *,
        unload_delay_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._needed, self._unload_delay_s, self._clock = host, needed, unload_delay_s, clock
        self._last_needed_s: dict[Version, float] = {}
        self.backends: dict[str, Backend] = {}
        self._log = structlog.get_logger()

    async def follow(self, *, interval_s: float) -> None:
        """Do rounds until cancelled."""
        while True:
            await self.round()
            await asyncio.sleep(interval_s)

    async def round(self) -> None:
        """Look at every backend once, and have it load and unload what differs."""
        try:
            addresses = await self._host.backends()
        except BoneageError as error:
            self._log.warning("runtimes cannot be listed", reason=str(error))
            return
        self.backends = {address: self.backends.get(address, Backend()) for address in addresses}
        needed = self._needed()
        kept = self._kept(needed)
        await asyncio.gather(*(self._bring(address, needed, kept) for address in addresses))

    def _kept(self, needed: frozenset[Version]) -> frozenset[Version]:
        """What may stay loaded: what is needed, and what was until a moment ago."""
        now_s = self._clock()
        self._last_needed_s |= dict.fromkeys(needed, now_s)
        old = [v for v, last_s in self._last_needed_s.items() if now_s - last_s > self._unload_delay_s]
        for version in old:
            del self._last_needed_s[version]
        return frozenset(self._last_needed_s)

    async def _bring(self, address: str, needed: frozenset[Version], kept: frozenset[Version]) -> None:
        backend = self.backends[address]
        try:
            backend.served = await self._host.served(address)
        except BoneageError as error:
            if backend.reachable:
                self._log.warning("a runtime is away", backend=address, reason=str(error))
            backend.reachable, backend.served, backend.faults = False, frozenset(), {}
            return
        backend.reachable = True
        for model in sorted({name for name, _ in needed | backend.served}):
            if self._host.runs(address, model):
                await self._bring_model(address, model, _of(needed, model), _of(kept, model))

    async def _bring_model(self, address: str, model: str, needed: frozenset[int], kept: frozenset[int]) -> None:
        """Load what is missing and unload what may go; a version that stays is not touched."""
        backend = self.backends[address]
        served = _of(backend.served, model)
        wanted = needed | (served & kept)
        if wanted == served:
            backend.faults = {v: reason for v, reason in backend.faults.items() if v[0] != model}
            return
        try:
            await self._host.serve(address, model, wanted)
            backend.served = await self._host.served(address)
        except BoneageError as error:
            self._note(address, error, {(model, number) for number in needed - served})
            return
        backend.faults = {v: reason for v, reason in backend.faults.items() if v[0] != model}
        self._log.info("versions", backend=address, model=model, versions=sorted(wanted), before=sorted(served))

    def _note(self, address: str, error: BoneageError, missing: set[Version]) -> None:
        """Remember why versions are not there: only a model that is wrong itself is a fault, others are awaited."""
        backend = self.backends[address]
        if backend.faults.keys().isdisjoint(missing):
            self._log.warning("not loaded", backend=address, reason=str(error), versions=sorted(missing))
        if isinstance(error, ModelContractError):
            backend.faults |= dict.fromkeys(missing, error.reason)

    def ready(self, versions: frozenset[Version]) -> bool:
        """Whether every runtime that is there answers for all of these that it is one for, and each has one at all."""
        here = {address: b for address, b in self.backends.items() if b.reachable}
        return all(
            any(self._host.runs(address, version[0]) for address in here)
            and all(version in b.served for address, b in here.items() if self._host.runs(address, version[0]))
            for version in versions
        )

    def fault(self, versions: frozenset[Version]) -> str:
        """Why one of these can be loaded nowhere; empty where none is known to be wrong."""
        return next(
            (
                f"{version[0]} version {version[1]}: {backend.faults[version]}"
                for backend in self.backends.values()
                for version in sorted(versions)
                if version in backend.faults
            ),
            "",
        )

    async def until_ready(self, versions: frozenset[Version], *, timeout_s: float) -> None:
        """Wait until all of these answer. Raises ModelContractError for a wrong one, else ModelUnavailableError."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.ready(versions):
                    if reason := self.fault(versions):
                        raise ModelContractError(reason)
                    await asyncio.sleep(WAKE_S)
        except TimeoutError:
            raise ModelUnavailableError(
                f"not ready everywhere within {timeout_s:.0f} s: {self._missing(versions)}"
            ) from None

    def _missing(self, versions: frozenset[Version]) -> str:
        missing: Mapping[str, list[str]] = {
            address: [f"{m} {n}" for m, n in sorted(versions - b.served) if self._host.runs(address, m)]
            for address, b in self.backends.items()
            if b.reachable
        }
        some = [f"{address} lacks {', '.join(names)}" for address, names in missing.items() if names]
        return "; ".join(some) or "no runtime can be reached"


def _of(versions: frozenset[Version], model: str) -> frozenset[int]:
    return frozenset(number for name, number in versions if name == model)
