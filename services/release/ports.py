"""What the release service asks of the outside: the store, the runtimes, and figures to judge a release by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.core.domain.release import Release
from services.release.state import State

Version = tuple[str, int]
"""A model's name and the number of one of its versions."""


@dataclass(frozen=True, slots=True)
class Verified:
    """That a release is whole: who signed it (SHA-256 of the public key, empty where nobody had to), how many files."""

    key_sha256: str
    files: int


class Catalogue(Protocol):
    """The store. Every method blocks, and raises ReleaseError where the store cannot be read or written."""

    def ids(self) -> Sequence[str]:
        """All releases, in the order of their ids."""
        ...

    def release(self, release_id: str) -> Release:
        """A release as its manifest has it. Raises UnknownReleaseError where there is none."""
        ...

    def verify(self, release_id: str) -> Verified:
        """Check the signature and the digest of every file, on copies. Raises ReleaseError."""
        ...

    def read_state(self) -> State:
        """What was decided last; the pointer counts where somebody moved it since."""
        ...

    def write_state(self, state: State) -> None:
        """Keep what was decided, then move the pointer."""
        ...

    def versions(self) -> Sequence[Version]:
        """All versions of all models."""
        ...

    def delete_release(self, release_id: str) -> None:
        """Delete a manifest and its signature."""
        ...

    def delete_version(self, version: Version) -> None:
        """Delete all files of a version."""
        ...


class ModelHost(Protocol):
    """The runtimes. Every method ends within some seconds, and raises ModelUnavailableError where one is away."""

    async def backends(self) -> tuple[str, ...]:
        """Addresses of the runtimes that there are now."""
        ...

    def runs(self, backend: str, model: str) -> bool:
        """Whether that runtime is one for that model."""
        ...

    def knows(self, backend: str, release_id: str) -> bool:
        """Whether calls there can name that release; a runtime that knows of versions alone takes any."""
        ...

    async def served(self, backend: str) -> frozenset[Version]:
        """Versions that answer there."""
        ...

    async def serve(self, backend: str, model: str, versions: frozenset[int]) -> None:
        """Have exactly these versions of a model answer there. Raises ModelContractError for one that cannot."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """What assessments under one release came to so far; shadow readings are counted apart."""

    answered: int = 0
    abstained: int = 0
    failed: int = 0
    seconds: float = 0.0
    shadowed: int = 0
    shadow_failed: int = 0
    shadow_abstained: int = 0
    compared: int = 0
    difference_months: float = 0.0

    def since(self, earlier: "Totals") -> "Totals":
        """What came after `earlier`."""
        return Totals(*(getattr(self, name) - getattr(earlier, name) for name in self.__slots__))


class Measurements(Protocol):
    """Counts by release, from wherever they are kept."""

    async def totals(self) -> Mapping[str, Totals]:
        """What each release came to since the first call; releases that did nothing may be absent."""
        ...


class Readings(Protocol):
    """Radiologists' readings of what was answered: the source of a release's true error."""

    async def mae_months(self, release_id: str) -> float | None:
        """Mean absolute error of a release against readings; None while there are too few."""
        ...
