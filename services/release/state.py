"""What the release service has decided so far; kept in the store as `releases/routing.json`, where all can read it."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from services.core.domain.routing import Routing
from services.core.errors import ReleaseError

EVENTS_KEPT: Final = 50
"""Of each release, the newest."""


class Status(StrEnum):
    """What became of a release; one that the routing names has no other status than that."""

    AVAILABLE = "available"
    SHADOW = "shadow"
    CANARY = "canary"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done: when (RFC 3339, UTC), by whom, what, and why or with what."""

    time: str
    caller: str
    action: str
    detail: str = ""

    @classmethod
    def now(cls, caller: str, action: str, detail: str = "") -> "Event":
        """An event of this second."""
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), caller, action, detail)


@dataclass(frozen=True, slots=True)
class State:
    """The routing, the releases that are being loaded for it, and what was done with each.

    `refused` holds the reason of each release that is not let in; `known` those that the automatic rollout has seen.
    `replaces` names what the pointer named before, from the writing of this state until the pointer is moved too.
    """

    routing: Routing
    candidates: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    retired: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    replaces: str = ""

    def status(self, release_id: str) -> Status:
        """What became of a release."""
        routing = self.routing
        roles = {
            routing.previous: Status.PREVIOUS,
            routing.shadow: Status.SHADOW,
            routing.canary: Status.CANARY,
            routing.current: Status.CURRENT,
        }
        if release_id in roles:
            return roles[release_id]
        if release_id in self.refused:
            return Status.REFUSED
        return Status.RETIRED if release_id in self.retired else Status.AVAILABLE

    @property
    def needed(self) -> tuple[str, ...]:
        """Releases that must be loaded, each once."""
        return tuple(dict.fromkeys((*self.routing.releases, *self.candidates)))

    def routed(self, routing: Routing, release_id: str, event: Event) -> "State":
        """With another routing, and why; what it names no more is retired, what it names is refused no more."""
        gone = set(self.routing.releases) - set(routing.releases)
        refused = {id_: reason for id_, reason in self.refused.items() if id_ not in routing.releases}
        retired = tuple(sorted({*self.retired, *gone} - set(routing.releases)))
        candidates = tuple(id_ for id_ in self.candidates if id_ not in routing.releases)
        routed = replace(self, routing=routing, candidates=candidates, refused=refused, retired=retired)
        return routed.noted(release_id, event)

    def rejected(self, release_id: str, routing: Routing, event: Event) -> "State":
        """With a release out of everything, under the routing that is left, and the event's detail as the reason."""
        candidates = tuple(id_ for id_ in self.candidates if id_ != release_id)
        state = replace(self, candidates=candidates).routed(routing, release_id, event)
        return replace(state, refused={**state.refused, release_id: event.detail})

    def noted(self, release_id: str, event: Event) -> "State":
        """With one more event of a release."""
        events = (*self.events.get(release_id, ()), event)[-EVENTS_KEPT:]
        return replace(self, events={**self.events, release_id: events})

    def without(self, release_ids: set[str]) -> "State":
        """With releases that are no more forgotten."""
        return replace(
            self,
            refused={id_: reason for id_, reason in self.refused.items() if id_ not in release_ids},
            retired=tuple(id_ for id_ in self.retired if id_ not in release_ids),
            events={id_: events for id_, events in self.events.items() if id_ not in release_ids},
        )


_ADAPTER: Final[TypeAdapter[State]] = TypeAdapter(State)


def state_to_json(state: State) -> bytes:
    """The state as it lies in the store."""
    return _ADAPTER.dump_json(state, indent=1) + b"\n"


def state_from_json(data: bytes, *, source: str) -> State:
    """A state of the store. Raises ReleaseError with `source` where it is none."""
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{place or 'state'}: {first['msg'].lower()}", field=source) from None
