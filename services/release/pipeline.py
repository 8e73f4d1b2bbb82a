"""Decides which release answers: checked, loaded everywhere, then routed to; nothing else may move the pointer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.core.domain.release import Release
from services.core.domain.routing import PERMILLE, Routing
from services.core.errors import (
    BoneageError,
    InvalidRequestError,
    ModelUnavailableError,
    OverloadedError,
    ReleaseError,
    StoreUnavailableError,
)
from services.core.runtime.workers import Workers
from services.release.garbage import Garbage, garbage_of
from services.release.ports import Catalogue, Verified, Version
from services.release.reconciler import Reconciler
from services.release.state import Event, State, Status

AUTOMATIC: Final = "automatic"


@dataclass(frozen=True, slots=True)
class Summary:
    """A release of the store, what became of it, and why it was refused; no manifest where it cannot be read."""

    id: str
    status: Status
    reason: str
    release: Release | None


class ReleasePipeline:
    """What it decides is in the store before anybody hears of it.

    One release is let in at a time, which may take minutes; the routing changes at once: a rollback waits for nobody.
    """

    def __init__(self, catalogue: Catalogue, workers: Workers, *, ready_timeout_s: float) -> None:
        self._catalogue, self._workers, self._ready_timeout_s = catalogue, workers, ready_timeout_s
        self._admitting = asyncio.Lock()
        self._verifying = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._closed = False
        self._state: State | None = None
        self._releases: dict[str, Release] = {}
        self._reconciler: Reconciler | None = None
        self._log = structlog.get_logger()

    async def begin(self, reconciler_of: Callable[[Callable[[], frozenset[Version]]], Reconciler]) -> Reconciler:
        """Take up what was decided last; gives the reconciler that works for it. Raises ReleaseError."""
        self._state = await self._workers.run(self._catalogue.read_state)
        for release_id in self._state.needed:
            await self._known(release_id)
        self._reconciler = reconciler_of(self.needed)
        return self._reconciler

    @property
    def state(self) -> State:
        """What was decided last. Raises ModelUnavailableError where another release service is the active one."""
        if self._state is None:
            raise ModelUnavailableError("this release service is not the active one")
        return self._state

    @property
    def _runtimes(self) -> Reconciler:
        assert self._reconciler is not None, "begin comes first"
        return self._reconciler

    def needed(self) -> frozenset[Version]:
        """Versions that every runtime must answer for."""
        return frozenset(version for id_ in self.state.needed for version in self._releases[id_].models.items())

    def ready(self) -> bool:
        """Whether what the routing names answers everywhere."""
        return all(self._runtimes.ready(self._releases[id_]) for id_ in self.state.routing.releases)

    async def summaries(self) -> Sequence[Summary]:
        """All releases of the store."""
        return [await self.get(release_id) for release_id in await self._workers.run(self._catalogue.ids)]

    async def get(self, release_id: str) -> Summary:
        """One release, or the current one for an empty id. Raises UnknownReleaseError."""
        wanted = release_id or self.state.routing.current
        status, reason = self.state.status(wanted), self.state.refused.get(wanted, "")
        try:
            return Summary(wanted, status, reason, await self._known(wanted))
        except ReleaseError as error:
            return Summary(wanted, Status.REFUSED, reason or str(error), None)

    def events(self, release_id: str) -> Sequence[Event]:
        """What was done with a release, oldest first."""
        return self.state.events.get(release_id or self.state.routing.current, ())

    async def verify(self, release_id: str) -> Verified:
        """Check a release now, one at a time. Raises ReleaseError, UnknownReleaseError, OverloadedError."""
        if self._verifying.locked():
            raise OverloadedError("another release is being verified; try again later")
        async with self._verifying:
            return await self._workers.run(self._catalogue.verify, release_id)

    async def promote(self, release_id: str, *, caller: str, detail: str = "") -> Routing:
        """Let a release answer everything; the one before stays loaded."""
        async with self._admitted(release_id, caller=caller):
            event = Event.now(caller, "promote", detail)
            return await self._route(lambda now: now.promoted(release_id), release_id, event)

    async def canary(self, release_id: str, permille: int, *, caller: str, detail: str = "") -> Routing:
        """Let a release answer a share of the studies; an empty id or 0 ends it."""
        if not release_id or not permille:
            ended, event = self.state.routing.canary, Event.now(caller, "canary", detail or "ended")
            return await self._route(lambda now: replace(now, canary="", canary_permille=0), ended, event)
        if permille > PERMILLE:
            raise InvalidRequestError(f"{permille} is not 1 to {PERMILLE} thousandths", field="permille")
        async with self._admitted(release_id, caller=caller):
            event = Event.now(caller, "canary", detail or f"{permille} permille")
            return await self._route(
                lambda now: replace(now.without(release_id), canary=release_id, canary_permille=permille),
                release_id,
                event,
            )

    async def shadow(self, release_id: str, *, caller: str, detail: str = "") -> Routing:
        """Let a release read along; an empty id ends it."""
        if not release_id:
            ended, event = self.state.routing.shadow, Event.now(caller, "shadow", detail or "ended")
            return await self._route(lambda now: replace(now, shadow=""), ended, event)
        async with self._admitted(release_id, caller=caller):
            event = Event.now(caller, "shadow", detail)
            return await self._route(lambda now: replace(now.without(release_id), shadow=release_id), release_id, event)

    async def rollback(self, *, caller: str, reason: str) -> Routing:
        """Let the previous release answer again, at once: it is loaded.

        Raises InvalidRequestError where there is none, ModelUnavailableError where a runtime has lost it.
        """
        now = self.state.routing
        if not now.previous:
            raise InvalidRequestError("there is no release before the current one", field="release")
        if lacking := self._runtimes.lacking(await self._known(now.previous)):
            raise ModelUnavailableError(f"{now.previous} is not loaded everywhere: {lacking}")
        event = Event.now(caller, "rollback", reason)
        return await self._route(lambda found: _rolled_back(found, expected=now), now.current, event)

    async def refuse(self, release_id: str, reason: str, *, caller: str = AUTOMATIC) -> None:
        """Take a release out of canary and shadow and let it in no more by itself."""
        await self._refuse(release_id, reason, caller=caller)

    async def see(self, release_ids: Sequence[str]) -> None:
        """Remember that the automatic rollout has seen these."""
        async with self._changing:
            await self._keep(replace(self.state, known=tuple(sorted({*self.state.known, *release_ids}))))

    async def collect_garbage(self, *, keep: int, dry_run: bool, caller: str) -> Garbage:
        """Delete releases beyond the newest `keep`, and versions that none that stays pins; never what is routed to."""
        self._check_nobody_comes_in()
        async with self._admitting:  # nothing comes to be needed meanwhile, and a rollback needs what is needed already
            garbage = await self._garbage(keep)
            if dry_run:
                return garbage
            for release_id in garbage.releases:
                self._releases.pop(release_id, None)
                await self._workers.run(self._catalogue.delete_release, release_id)
            for version in garbage.versions:
                await self._workers.run(self._catalogue.delete_version, version)
            async with self._changing:
                await self._keep(self.state.without(set(garbage.releases)))
            self._log.info("collected", caller=caller, releases=garbage.releases, versions=len(garbage.versions))
            return garbage

    async def _garbage(self, keep: int) -> Garbage:
        pinned = {id_: await self._pinned(id_) for id_ in await self._workers.run(self._catalogue.ids)}
        versions = await self._workers.run(self._catalogue.versions)
        return garbage_of(pinned, versions, needed=self.state.needed, keep=keep)

    async def _pinned(self, release_id: str) -> Sequence[Version]:
        """Versions of a release; none of one whose manifest cannot be read."""
        try:
            return tuple((await self._known(release_id)).models.items())
        except BoneageError:
            return ()

    async def watch(self) -> AsyncIterator[Routing]:
        """The routing now, and at each change; ends when the process does."""
        last: Routing | None = None
        while not self._closed:
            if (now := self.state.routing) != last:
                last = now
                yield now
            await self._until_other(last)

    async def _until_other(self, last: Routing | None) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self.state.routing != last)

    async def close(self) -> None:
        """End every watch, and decide nothing from here on: what is being written is let to its end."""
        async with self._changing, self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_nobody_comes_in(self) -> None:
        if self._admitting.locked():
            raise OverloadedError("another release is being let in, or old ones are deleted; try again later")

    @asynccontextmanager
    async def _admitted(self, release_id: str, *, caller: str) -> AsyncIterator[None]:
        """A release that is checked and loaded everywhere, to be routed to inside; what fails is refused, with why.

        Raises OverloadedError while another is being let in: whoever waits for minutes may have gone by then.
        """
        if release_id == self.state.routing.current:
            raise InvalidRequestError(f"{release_id} answers everything already", field="release")
        self._check_nobody_comes_in()
        async with self._admitting:
            try:
                await self._admit(release_id)
                yield
            except StoreUnavailableError:
                await self._forget(release_id)  # which says nothing of the release
                raise
            except BoneageError as error:
                await self._refuse(release_id, str(error), caller=caller)
                raise
            except asyncio.CancelledError:
                self._drop(release_id)
                raise

    async def _admit(self, release_id: str) -> None:
        await self._workers.run(self._catalogue.verify, release_id)
        # Read anew, since the id may have been another's; replaced in one go, since what is needed is read from it.
        release = self._releases[release_id] = await self._workers.run(self._catalogue.release, release_id)
        async with self._changing:
            if release_id not in self.state.needed:
                await self._keep(replace(self.state, candidates=(*self.state.candidates, release_id)))
        await self._runtimes.until_ready(release, timeout_s=self._ready_timeout_s)

    def _drop(self, release_id: str) -> None:
        """Need a candidate no more; what is routed to is needed all the same."""
        if self._state is not None:
            left = tuple(id_ for id_ in self._state.candidates if id_ != release_id)
            self._state = replace(self._state, candidates=left)

    async def _forget(self, release_id: str) -> None:
        self._drop(release_id)
        with suppress(BoneageError):  # the store is away; the next decision is written without it
            async with self._changing:
                await self._keep(self.state)

    async def _refuse(self, release_id: str, reason: str, *, caller: str) -> None:
        async with self._changing:
            self._drop(release_id)
            routing = self.state.routing.without(release_id)
            if release_id in (routing.current, routing.previous):
                return
            if release_id in await self._workers.run(self._catalogue.ids):
                await self._keep(self.state.rejected(release_id, routing, Event.now(caller, "refuse", reason)))
                self._log.warning("refused", caller=caller, release=release_id, reason=reason)

    async def _route(self, change: Callable[[Routing], Routing], release_id: str, event: Event) -> Routing:
        """Change the routing as it is now, whatever was decided meanwhile."""
        async with self._changing:
            routing = change(self.state.routing)
            if release_id:
                await self._keep(self.state.routed(routing, release_id, event))
        self._log.info(
            "routing", caller=event.caller, action=event.action, release=release_id, detail=event.detail,
            current=routing.current, canary=routing.canary, permille=routing.canary_permille, shadow=routing.shadow,
        )  # fmt: skip
        return self.state.routing

    async def _keep(self, state: State) -> None:
        """Write first, tell afterwards: nobody goes by what would be gone after a restart."""
        if self._closed:
            raise ModelUnavailableError("this release service is stopping")
        await self._workers.run(self._catalogue.write_state, state)
        async with self._changed:
            self._state = state
            self._changed.notify_all()

    async def _known(self, release_id: str) -> Release:
        if release_id not in self._releases:
            self._releases[release_id] = await self._workers.run(self._catalogue.release, release_id)
        return self._releases[release_id]


def _rolled_back(now: Routing, *, expected: Routing) -> Routing:
    """With the previous release current, unless somebody was quicker: twice would be no rollback at all."""
    if (now.current, now.previous) != (expected.current, expected.previous):
        raise InvalidRequestError(f"{now.current} answers by now; look again", field="release")
    return now.promoted(now.previous)
