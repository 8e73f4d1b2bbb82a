"""Reads `releases/routing.json`, in which the release service keeps who answers what and which releases are to come."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from services.core.domain.routing import Routing
from services.core.errors import ReleaseError


@dataclass(frozen=True, slots=True)
class RoutingFile:
    """The routing, and releases that are to be had ready beside it."""

    routing: Routing
    candidates: tuple[str, ...] = ()

    @property
    def releases(self) -> tuple[str, ...]:
        """All that are named, each once, the current one first."""
        return tuple(dict.fromkeys((*self.routing.releases, *self.candidates)))


class _Content(BaseModel):
    """What else the file says is for the release service alone."""

    model_config = ConfigDict(extra="ignore")

    routing: Routing
    candidates: tuple[str, ...] = ()


def routing_from_json(text: str, *, source: str) -> RoutingFile:
    """What the file says. Raises ReleaseError with `source`, the place and the reason of what is wrong."""
    try:
        content = _Content.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{place or 'routing'}: {first['msg'].lower()}", field=source) from None
    return RoutingFile(content.routing, content.candidates)
