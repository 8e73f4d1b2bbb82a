"""Which release answers which study: the routing that the release service decides and the assessment goes by."""

import hmac
from dataclasses import dataclass, replace
from typing import Final

PERMILLE: Final = 1000


@dataclass(frozen=True, slots=True)
class Routing:
    """Releases by what they do; an empty id stands for none.

    `canary` answers `canary_permille` thousandths of the studies and `current` the others; `shadow` reads along without
    answering; `previous` answered before, and stays loaded so that a rollback is instant.

    Raises ValueError where a canary has no share or a share no canary.
    """

    current: str
    previous: str = ""
    canary: str = ""
    canary_permille: int = 0
    shadow: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.canary_permille <= PERMILLE or bool(self.canary) != bool(self.canary_permille):
            raise ValueError(f"a canary has a share of 1 to {PERMILLE} thousandths, not {self.canary_permille}")
        if not self.current:
            raise ValueError("a routing needs a current release")

    @property
    def releases(self) -> tuple[str, ...]:
        """All that must be loaded, each once, the current one first."""
        named = (self.current, self.canary, self.shadow, self.previous)
        return tuple(dict.fromkeys(release for release in named if release))

    def promoted(self, release: str) -> "Routing":
        """With another current release, which gives up what else it did; the one that was stays loaded."""
        return replace(self.without(release), current=release, previous=self.current)

    def without(self, release: str) -> "Routing":
        """Without a release as canary or shadow."""
        shadow = "" if release == self.shadow else self.shadow
        if release == self.canary:
            return replace(self, canary="", canary_permille=0, shadow=shadow)
        return replace(self, shadow=shadow)

    def release_for(self, study: bytes) -> str:
        """The release that answers a study, told by anything that stays the same for it.

        The share is drawn by HMAC-SHA256 (RFC 2104) under the canary's id: every canary meets other studies.
        """
        if not self.canary:
            return self.current
        digest = hmac.digest(self.canary.encode(), study, "sha256")
        return self.canary if int.from_bytes(digest[:8]) % PERMILLE < self.canary_permille else self.current
