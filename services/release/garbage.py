"""What of a store is needed no more: old releases, and the versions that none which stays pins."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from services.release.ports import Version


@dataclass(frozen=True, slots=True)
class Garbage:
    """Releases and versions to delete."""

    releases: tuple[str, ...]
    versions: tuple[Version, ...]


def garbage_of(
    pinned: Mapping[str, Collection[Version]], versions: Sequence[Version], *, needed: Collection[str], keep: int
) -> Garbage:
    """Of releases, in order, with the versions that they pin: all but those `needed` and the last `keep` others.

    Versions go only where a release that goes pinned them: one that nothing pins yet may be about to be released.
    """
    others = [release for release in pinned if release not in needed]
    staying = {*needed, *(others[-keep:] if keep else ())}
    gone = tuple(release for release in pinned if release not in staying)
    kept = {version for release in staying for version in pinned.get(release, ())}
    once = {version for release in gone for version in pinned[release]}
    return Garbage(gone, tuple(version for version in versions if version in once - kept))
