"""Stands in for the store and the runtimes of the release service, where a test is about what it decides."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.core.domain.release import Release
from services.core.domain.routing import Routing
from services.core.errors import ModelContractError, ModelUnavailableError, ReleaseError, UnknownReleaseError
from services.release.ports import Totals, Verified, Version
from services.release.state import State
from tests.models import tiny_release


class MemoryCatalogue:
    """A store in memory; releases in `altered` do not pass verification, a `broken` store cannot be written."""

    def __init__(self, *release_ids: str) -> None:
        self.releases: dict[str, Release] = {}
        self.altered: dict[str, str] = {}
        self.state = State(Routing(release_ids[0]))
        self.broken = False
        for release_id in release_ids:
            self.add(release_id)

    def add(self, release_id: str, *, version: int | None = None) -> None:
        """Publish a release of a version of its own."""
        number = len(self.releases) + 1 if version is None else version
        self.releases[release_id] = tiny_release(release_id, version=number)

    def ids(self) -> Sequence[str]:
        """In order."""
        return sorted(self.releases)

    def release(self, release_id: str) -> Release:
        """By id."""
        if release_id not in self.releases:
            raise UnknownReleaseError(f"no release {release_id!r}", field="release")
        return self.releases[release_id]

    def verify(self, release_id: str) -> Verified:
        """Unless it is altered."""
        self.release(release_id)
        if release_id in self.altered:
            raise ReleaseError(self.altered[release_id], field=f"releases/{release_id}.json")
        return Verified("", 6)

    def read_state(self) -> State:
        """As written last."""
        return self.state

    def write_state(self, state: State) -> None:
        """Unless it is broken."""
        if self.broken:
            raise ReleaseError("no space left on device", field="releases/routing.json")
        self.state = state

    def versions(self) -> Sequence[Version]:
        """All that any release ever pinned and nobody deleted."""
        return sorted({v for release in self.releases.values() for v in release.models.items()} | self.orphans)

    orphans: frozenset[Version] = frozenset()

    def delete_release(self, release_id: str) -> None:
        """Its versions stay until they are deleted."""
        self.orphans |= set(self.releases.pop(release_id).models.items())

    def delete_version(self, version: Version) -> None:
        """One."""
        self.orphans -= {version}


class MemoryHost:
    """Runtimes in memory by address; those in `away` do not answer, versions in `wrong` cannot be loaded."""

    def __init__(self, *addresses: str) -> None:
        self.loaded: dict[str, set[Version]] = {address: set() for address in addresses}
        self.away: set[str] = set()
        self.wrong: dict[Version, str] = {}
        self.unknown: dict[str, set[str]] = {}
        self.asked: list[tuple[str, str, frozenset[int]]] = []
        self.held: dict[str, asyncio.Event] = {}

    async def backends(self) -> tuple[str, ...]:
        """All."""
        return tuple(self.loaded)

    def runs(self, backend: str, model: str) -> bool:
        """Every model."""
        return bool(backend and model)

    def knows(self, backend: str, release_id: str) -> bool:
        """Unless told otherwise."""
        return release_id not in self.unknown.get(backend, set())

    async def served(self, backend: str) -> frozenset[Version]:
        """What is loaded."""
        if backend in self.away:
            raise ModelUnavailableError("does not answer", field=backend)
        return frozenset(self.loaded[backend])

    async def serve(self, backend: str, model: str, versions: frozenset[int]) -> None:
        """Load exactly these; a wrong one keeps what was there."""
        await self.served(backend)
        if backend in self.held:
            await self.held[backend].wait()
        self.asked.append((backend, model, versions))
        for number in versions:
            if (model, number) in self.wrong:
                raise ModelContractError(self.wrong[model, number])
        self.loaded[backend] = {v for v in self.loaded[backend] if v[0] != model} | {(model, n) for n in versions}

    def restart(self, backend: str) -> None:
        """What was loaded is gone."""
        self.loaded[backend] = set()

    async def close(self) -> None:
        """Nothing to close."""


class Counted:
    """Measurements that the test sets."""

    def __init__(self) -> None:
        self.now: dict[str, Totals] = {}

    def add(self, release: str, **counts: float) -> None:
        """So many more of one release."""
        before = self.now.get(release, Totals())
        self.now[release] = replace(before, **{name: getattr(before, name) + n for name, n in counts.items()})

    async def totals(self) -> dict[str, Totals]:
        """As set."""
        return dict(self.now)
