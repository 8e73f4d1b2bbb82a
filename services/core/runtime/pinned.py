"""Which versions of its models a service needs: what the releases in its repository pin, now and as that changes."""

from collections.abc import Sequence
from contextlib import suppress

from services.core.adapters.model_repository import ModelRepository
from services.core.domain.release import Release
from services.core.errors import BoneageError

Versions = frozenset[tuple[str, int]]


class PinnedVersions:
    """The versions of `models` that the repository's releases name now; what cannot be read names none."""

    def __init__(self, releases: ModelRepository, models: Sequence[str]) -> None:
        self._releases = releases
        self._models = models
        self._needed = self._of(releases.get())

    def needed(self) -> Versions:
        """Those of the current release; those that were, while the pointer or its release cannot be read."""
        with suppress(BoneageError):
            self._needed = self._of(self._releases.get())
        return self._needed

    def wanted(self) -> Versions:
        """Those of all releases that calls may name, the current one's among them."""
        versions = set(self.needed())
        with suppress(BoneageError):
            for release_id in self._releases.wanted():
                with suppress(BoneageError):
                    versions |= self._of(self._releases.get(release_id))
        return frozenset(versions)

    def _of(self, release: Release) -> Versions:
        return frozenset((model, version) for model, version in release.models.items() if model in self._models)
