"""A model repository on disk, in Triton's own layout, with the releases that pin its versions: what runtimes read.

NAME/config.pbtxt  NAME/VERSION/model.onnx  NAME/VERSION/card.json
releases/ID.json  releases/ID.sig  releases/current  releases/routing.json

It is filled by `services.release.sync` from the store, or it is the embedded one. Nothing here writes to it.
"""

from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from services.core.adapters.model_card import card_from_json
from services.core.adapters.release_manifest import RELEASE_ID, release_from_json
from services.core.adapters.routing_file import routing_from_json
from services.core.domain import postprocess, preprocess
from services.core.domain.release import CARD, WEIGHTS, Release
from services.core.errors import ModelUnavailableError, ReleaseError, UnknownReleaseError

RELEASES: Final = "releases"
CURRENT: Final = "current"
ROUTING: Final = "routing"
"""Name of the file that says which releases are wanted; no release has it for an id."""


@cache
def preprocessing_sha256() -> str:
    """Digest of the code that prepares pixels and reads masks: a release is right only with what it was made with."""
    digest = sha256()
    for module in (preprocess, postprocess):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def model_file(root: Path, model: str, version: int) -> Path:
    """Where the weights of a version lie."""
    return root / model / str(version) / WEIGHTS


def release_file(root: Path, release_id: str) -> Path:
    """Where the manifest of a release lies."""
    return root / RELEASES / f"{release_id}.json"


def read_card(root: Path, model: str, version: int) -> dict[str, Any]:
    """The card of a version. Raises ReleaseError where it is missing, damaged or another version's."""
    path = model_file(root, model, version).with_name(CARD)
    return card_of(_bytes(path), model, version, place=_place(path))


def card_of(content: bytes, model: str, version: int, *, place: str) -> dict[str, Any]:
    """The card that a file holds. Raises ReleaseError with `place` where it is damaged or another version's."""
    card = card_from_json(_text(content, place), source=place)
    if (card["model"], card["version"]) != (model, version):
        raise ReleaseError(f"the card is that of {card['model']} version {card['version']}", field=place)
    return card


def verified_model_bytes(root: Path, model: str, version: int) -> bytes:
    """The weights of a version, compared with their card, and that with every release that states its digest.

    What is compared is what is returned: nothing can come between the check and the use. Raises ModelUnavailableError
    where there are none, ReleaseError where they are not those that were published.
    """
    path = model_file(root, model, version)
    if not path.is_file():
        raise ModelUnavailableError(f"{model} has no version {version}")
    written = _bytes(path.with_name(CARD))
    card = card_of(written, model, version, place=_place(path.with_name(CARD)))
    stated = _stated_digests(root, f"{model}/{version}/{CARD}")
    if stated and _sha256(written) not in stated:
        raise ReleaseError("the card is not the one that a release pins", field=_place(path.with_name(CARD)))
    weights = _bytes(path)
    if _sha256(weights) != card["model_sha256"]:
        raise ReleaseError("the file is not the one that its card describes: it is damaged", field=_place(path))
    return weights


class ModelRepository:
    """The releases of a folder; the current one is read and checked at once, others when they are asked for.

    Raises ReleaseError for a release that is damaged, incomplete or made with other preprocessing than this program's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._releases: dict[str, Release] = {}
        self._pointer = _Pointer(root / RELEASES / CURRENT)
        self.get()

    @property
    def current(self) -> str:
        """The id that the pointer names now. Raises ReleaseError where it cannot be read or names no release here."""
        named = self._pointer.read()
        if named not in self._releases and not self._is_there(named):
            raise ReleaseError(f"points to {named!r}, which is no release here", field=f"{RELEASES}/{CURRENT}")
        return named

    def get(self, release_id: str = "") -> Release:
        """The release of that id, or the current one for an empty id. Raises UnknownReleaseError, ReleaseError."""
        wanted = release_id or self.current
        if wanted not in self._releases:
            self._releases[wanted] = self._read(wanted)
        return self._releases[wanted]

    def ids(self) -> list[str]:
        """All releases that are here now, in order of their ids."""
        found = sorted(path.stem for path in (self.root / RELEASES).glob("*.json"))
        return [name for name in found if self._is_there(name)]

    def wanted(self) -> tuple[str, ...]:
        """Releases here that are to be loaded: the routing's where there is one, else all. Raises ReleaseError."""
        path = release_file(self.root, ROUTING)
        if not path.is_file():
            return tuple(self.ids())
        routing = routing_from_json(_text(_bytes(path), _place(path)), source=_place(path)).routing
        return tuple(release_id for release_id in routing.releases if self._is_there(release_id))

    def card(self, model: str, version: int) -> dict[str, Any]:
        """The card of a version. Raises ReleaseError where it is missing or damaged."""
        return read_card(self.root, model, version)

    def _is_there(self, release_id: str) -> bool:
        # The id comes from a request: only a plain name may become part of a path.
        plain = RELEASE_ID.fullmatch(release_id) and release_id != ROUTING
        return bool(plain) and release_file(self.root, release_id).is_file()

    def _read(self, release_id: str) -> Release:
        if not self._is_there(release_id):
            raise UnknownReleaseError(f"no release {release_id[:64]!r} is served here", field="release")
        path = release_file(self.root, release_id)
        release = release_of(_bytes(path), release_id, place=_place(path))
        for model, version in release.models.items():
            if not model_file(self.root, model, version).is_file():
                raise ReleaseError(f"{model} has no version {version}", field=_place(path))
            self._check_card(release, model, version)
        return release

    def _check_card(self, release: Release, model: str, version: int) -> None:
        """Weights are compared when they are loaded; that the card which they are compared with is right, here."""
        stated = release.files.get(f"{model}/{version}/{CARD}")
        path = model_file(self.root, model, version).with_name(CARD)
        if stated and _sha256(_bytes(path)) != stated:
            raise ReleaseError(f"the card is not the one that release {release.id} pins", field=_place(path))


class _Pointer:
    """A file of one word, read again only when it has been replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._word = ""

    def read(self) -> str:
        """The word. Raises ReleaseError."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise ReleaseError(f"cannot be read: {error.strerror}", field=_place(self._path)) from None
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._word = _text(_bytes(self._path), _place(self._path)).strip()
            self._seen = seen
        return self._word


def release_of(content: bytes, release_id: str, *, place: str) -> Release:
    """The release of a manifest. Raises ReleaseError with `place` for another's, or one not for this program."""
    release = release_from_json(_text(content, place), source=place)
    if release.id != release_id:
        raise ReleaseError(f"the manifest says that it is release {release.id!r}", field=place)
    if release.preprocessing_sha256 != preprocessing_sha256():
        raise ReleaseError("made with other preprocessing than this program's", field=place)
    return release


def _stated_digests(root: Path, name: str) -> set[str]:
    """What the releases here say of a file; one that is damaged says nothing, and is refused when it is asked for."""
    stated = set()
    for path in (root / RELEASES).glob("*.json"):
        with suppress(ReleaseError):
            stated.add(release_from_json(_text(_bytes(path), _place(path)), source=_place(path)).files.get(name))
    return {digest for digest in stated if digest}


def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"cannot be read: {error.strerror}", field=_place(path)) from None


def _text(content: bytes, place: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ReleaseError("cannot be read: it is not text", field=place) from None


def _place(path: Path) -> str:
    """The last parts of a path: enough to find the file by, without where the repository lies."""
    return "/".join(path.parts[-2:] if path.parent.name == RELEASES else path.parts[-3:])
