"""Brings every runtime to what the routing needs, again and again: one that was away is made whole by itself."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

from services.core.domain.release import Release
from services.core.errors import BoneageError, ModelContractError, ModelUnavailableError
from services.core.runtime.logs import where
from services.release.ports import ModelHost, Version

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
Outcome = Literal["wrong", "awaited", "done"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("wrong", "awaited", "done")
"""What became of a load, the worst first: a model that is wrong, one that is not there yet, all as wanted."""
WAKE_S: Final = 0.05
"""Rest between two looks of somebody who waits for a release to be ready."""


@dataclass(slots=True)
class Backend:
    """What is known of one runtime since the last round."""

    host: ModelHost
    served: frozenset[Version] = frozenset()
    reachable: bool = False
    faults: dict[Version, str] = field(default_factory=dict)
    pauses: dict[str, "Pause"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    """Versions of a model that could not be loaded, and when that is tried again: what is wrong rarely mends itself."""

    wanted: frozenset[int]
    wait_s: float
    until_s: float


class Reconciler:
    """Has the versions that `needed` names answer on every backend of `hosts`.

    What is needed no more stays for `unload_delay_s`, until the last call that began under it has ended.
    """

    def __init__(
        self,
        hosts: Sequence[ModelHost],
        needed: Callable[[], frozenset[Version]],
        *,
        unload_delay_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts, self._needed, self._unload_delay_s, self._clock = hosts, needed, unload_delay_s, clock
        self._last_needed_s: dict[Version, float] = {}
        self._seen: set[Version] = set()
        self.backends: dict[str, Backend] = {}
        self._log = structlog.get_logger()

    async def follow(self, *, interval_s: float) -> None:
        """Look again and again until cancelled; a backend that takes long to load holds none of the others up."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                needed = await self._look()
                for address, backend in self.backends.items():
                    if address not in running or running[address].done():
                        running[address] = asyncio.create_task(self._bring(address, backend, needed))
                await asyncio.sleep(interval_s)
        finally:
            for task in running.values():
                task.cancel()

    async def round(self) -> None:
        """Look at every backend once, and have it load and unload what differs."""
        needed = await self._look()
        await asyncio.gather(*(self._bring(address, backend, needed) for address, backend in self.backends.items()))

    async def _look(self) -> frozenset[Version]:
        """Find the backends that there are now; gives the versions that are needed."""
        found: dict[str, Backend] = {}
        for host in self._hosts:
            try:
                addresses = await host.backends()
            except BoneageError as error:
                self._log.warning("runtimes cannot be listed", reason=str(error))
                addresses = tuple(address for address, b in self.backends.items() if b.host is host)
            found |= {address: self.backends.get(address, Backend(host)) for address in addresses}
        self.backends = found
        needed, now_s = self._needed(), self._clock()
        self._last_needed_s |= dict.fromkeys(needed, now_s)
        for version in [v for v, last_s in self._last_needed_s.items() if now_s - last_s > self._unload_delay_s]:
            del self._last_needed_s[version]
        return needed

    def _kept(self, served: frozenset[Version]) -> frozenset[Version]:
        """What may stay loaded: what is needed, and what was until a moment ago.

        What is found loaded for the first time may have been needed by whoever was at work before us.
        """
        self._last_needed_s |= dict.fromkeys(served - self._seen - self._last_needed_s.keys(), self._clock())
        self._seen |= served
        return frozenset(self._last_needed_s)

    async def _bring(self, address: str, backend: Backend, needed: frozenset[Version]) -> None:
        """Have one backend answer for what it is one for; what goes wrong there is nobody else's trouble."""
        try:
            backend.served = await backend.host.served(address)
        except BoneageError as error:
            if backend.reachable:
                self._log.warning("a runtime is away", backend=address, reason=str(error))
            backend.reachable, backend.served, backend.faults = False, frozenset(), {}
            return
        backend.reachable, kept = True, self._kept(backend.served)
        models = [m for m in sorted({name for name, _ in needed | backend.served}) if backend.host.runs(address, m)]
        try:
            await asyncio.gather(
                *(self._bring_model(address, backend, m, needed=_of(needed, m), kept=_of(kept, m)) for m in models)
            )
        except Exception as error:  # noqa: BLE001 -- the boundary of a round: the next one looks again
            self._log.error("unexpected error", backend=address, error=type(error).__name__, where=where(error))

    async def _bring_model(
        self, address: str, backend: Backend, model: str, *, needed: frozenset[int], kept: frozenset[int]
    ) -> None:
        """Load what is missing and unload what may go; a version that stays is not touched."""
        served = _of(backend.served, model)
        wanted = needed | (served & kept)
        if wanted == served:
            backend.faults = {v: reason for v, reason in backend.faults.items() if v[0] != model}
            return
        pause = backend.pauses.get(model)
        if pause and pause.wanted == wanted and self._clock() < pause.until_s:
            return
        outcome = await self._serve(address, backend, model, wanted, needed - served)
        if outcome == "wrong":
            backend.pauses[model] = self._longer(pause, wanted)
        elif outcome == "done":
            backend.pauses.pop(model, None)
            backend.faults = {v: reason for v, reason in backend.faults.items() if v[0] != model}
            self._log.info("versions", backend=address, model=model, versions=sorted(wanted), before=sorted(served))

    async def _serve(
        self, address: str, backend: Backend, model: str, wanted: frozenset[int], missing: frozenset[int]
    ) -> Outcome:
        """Have versions served; where one of several that are missing is wrong, the others are, one by one."""
        try:
            await backend.host.serve(address, model, wanted)
            backend.served = await backend.host.served(address)
        except BoneageError as error:
            wrong = isinstance(error, ModelContractError)
            if wrong and len(missing) > 1:
                return await self._serve_each(address, backend, model, wanted - missing, missing)
            self._note(address, backend, error, {(model, number) for number in missing})
            return "wrong" if wrong else "awaited"
        return "done"

    async def _serve_each(
        self, address: str, backend: Backend, model: str, whole: frozenset[int], missing: frozenset[int]
    ) -> Outcome:
        outcomes: set[Outcome] = set()
        for number in sorted(missing, reverse=True):
            outcome = await self._serve(address, backend, model, whole | {number}, frozenset({number}))
            outcomes.add(outcome)
            whole |= {number} if outcome == "done" else frozenset()
        return next((o for o in OUTCOMES if o in outcomes), "done")

    def _longer(self, pause: Pause | None, wanted: frozenset[int]) -> Pause:
        wait_s = min(2 * pause.wait_s, LONGEST_PAUSE_S) if pause and pause.wanted == wanted else FIRST_PAUSE_S
        return Pause(wanted, wait_s, self._clock() + wait_s)

    def _note(self, address: str, backend: Backend, error: BoneageError, missing: set[Version]) -> None:
        """Remember why versions are not there: only a model that is wrong itself is a fault, others are awaited."""
        if backend.faults.keys().isdisjoint(missing):
            self._log.warning("not loaded", backend=address, reason=str(error), versions=sorted(missing))
        if isinstance(error, ModelContractError):
            backend.faults |= dict.fromkeys(missing, error.reason)

    def ready(self, release: Release) -> bool:
        """Whether every runtime that is there answers for its models, and every service can be asked for it."""
        here = [(address, b) for address, b in self.backends.items() if b.reachable]
        return all(b.host.knows(address, release.id) for address, b in here) and all(
            (running := [b for address, b in here if b.host.runs(address, version[0])])
            and all(version in b.served for b in running)
            for version in release.models.items()
        )

    def lagging(self, release_ids: Iterable[str]) -> frozenset[str]:
        """Runtimes that do not answer, lack a version that is needed, or do not know one of these releases."""
        needed, ids = self._needed(), tuple(release_ids)
        return frozenset(
            address
            for address, backend in self.backends.items()
            if not backend.reachable
            or any(version not in backend.served for version in needed if backend.host.runs(address, version[0]))
            or not all(backend.host.knows(address, release_id) for release_id in ids)
        )

    def lacking(self, release: Release) -> str:
        """Which runtime that can be reached lacks what of a release; empty where none does."""
        reached = any(backend.reachable for backend in self.backends.values())
        return self._missing(release) if reached and not self.ready(release) else ""

    def fault(self, release: Release) -> str:
        """Why a version of the release cannot be loaded; empty where none is known to be wrong."""
        return next(
            (
                f"{version[0]} version {version[1]}: {backend.faults[version]}"
                for backend in self.backends.values()
                for version in sorted(release.models.items())
                if version in backend.faults
            ),
            "",
        )

    async def until_ready(self, release: Release, *, timeout_s: float) -> None:
        """Wait for a release. Raises ModelContractError where a model of it is wrong, else ModelUnavailableError."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.ready(release):
                    if reason := self.fault(release):
                        raise ModelContractError(reason)
                    await asyncio.sleep(WAKE_S)
        except TimeoutError:
            reason = f"not ready everywhere within {timeout_s:.0f} s: {self._missing(release)}"
            raise ModelUnavailableError(reason) from None

    def _missing(self, release: Release) -> str:
        lacks: list[str] = []
        for address, backend in self.backends.items():
            missing = sorted(set(release.models.items()) - backend.served)
            names = [f"{model} {number}" for model, number in missing if backend.host.runs(address, model)]
            names += [] if backend.host.knows(address, release.id) else ["its manifest"]
            if backend.reachable and names:
                lacks.append(f"{address} lacks {', '.join(names)}")
        return "; ".join(lacks) or "no runtime can be reached"


def _of(versions: frozenset[Version], model: str) -> frozenset[int]:
    return frozenset(number for name, number in versions if name == model)
