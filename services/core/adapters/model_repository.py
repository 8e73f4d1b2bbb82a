"""A model repository on disk, in Triton's own layout, with the releases that pin its versions.

NAME/config.pbtxt  NAME/VERSION/model.onnx  NAME/VERSION/card.json  releases/ID.json  releases/current
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Final

from services.core.adapters.model_card import card_from_json
from services.core.adapters.release_manifest import release_from_json, release_to_json
from services.core.adapters.triton_config import config_pbtxt
from services.core.domain import postprocess, preprocess
from services.core.domain.contracts import ModelContract
from services.core.domain.release import Release
from services.core.errors import ModelUnavailableError, ReleaseError, UnknownReleaseError

RELEASES: Final = "releases"
CURRENT: Final = "current"
RELEASE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@cache
def preprocessing_sha256() -> str:
    """Digest of the code that prepares pixels and reads masks: a release is right only with what it was made with."""
    digest = sha256()
    for module in (preprocess, postprocess):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def model_file(root: Path, model: str, version: int) -> Path:
    """Where the weights of a version lie."""
    return root / model / str(version) / "model.onnx"


def release_file(root: Path, release_id: str) -> Path:
    """Where the manifest of a release lies."""
    return root / RELEASES / f"{release_id}.json"


def read_card(root: Path, model: str, version: int) -> dict[str, Any]:
    """The card of a version. Raises ReleaseError where it is missing, damaged or another version's."""
    path = model_file(root, model, version).with_name("card.json")
    card = card_from_json(_text(path), source=_place(path))
    if (card["model"], card["version"]) != (model, version):
        raise ReleaseError(f"the card is that of {card['model']} version {card['version']}", field=_place(path))
    return card


def verified_model_file(root: Path, model: str, version: int) -> Path:
    """The weights of a version, compared with their card.

    Raises ModelUnavailableError where there are none, ReleaseError where they are not those that were published.
    """
    path = model_file(root, model, version)
    if not path.is_file():
        raise ModelUnavailableError(f"{model} has no version {version}")
    if _digest(path) != read_card(root, model, version)["model_sha256"]:
        raise ReleaseError("the file is not the one that its card describes: it is damaged", field=_place(path))
    return path


class ReleaseStore:
    """The releases of a repository; the current one is read and checked at once, others when they are asked for.

    Raises ReleaseError for a release that is damaged, incomplete or made with other preprocessing than this program's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._releases: dict[str, Release] = {}
        path = root / RELEASES / CURRENT
        self.current = _text(path).strip()
        if self.current not in self.ids():
            raise ReleaseError(f"points to {self.current!r}, which is no release here", field=_place(path))
        self.get()

    def get(self, release_id: str = "") -> Release:
        """The release of that id, or the current one for an empty id. Raises UnknownReleaseError, ReleaseError."""
        wanted = release_id or self.current
        if wanted not in self._releases:
            self._releases[wanted] = self._read(wanted)
        return self._releases[wanted]

    def ids(self) -> list[str]:
        """All releases, in order of their ids."""
        return sorted(path.stem for path in (self.root / RELEASES).glob("*.json"))

    def card(self, model: str, version: int) -> dict[str, Any]:
        """The card of a version. Raises ReleaseError where it is missing or damaged."""
        return read_card(self.root, model, version)

    def _read(self, release_id: str) -> Release:
        path = release_file(self.root, release_id)
        # The id comes from a request: only a plain name may become part of a path.
        if not RELEASE_ID.fullmatch(release_id) or not path.is_file():
            raise UnknownReleaseError(f"no release {release_id[:64]!r} is served here", field="release")
        release = release_from_json(_text(path), source=_place(path))
        if release.id != release_id:
            raise ReleaseError(f"the manifest says that it is release {release.id!r}", field=_place(path))
        if release.preprocessing_sha256 != preprocessing_sha256():
            raise ReleaseError("made with other preprocessing than this program's", field=_place(path))
        _check_complete(self.root, release, _place(path))
        return release


def publish_model(root: Path, contract: ModelContract, version: int, weights: Path, card: Mapping[str, object]) -> None:
    """Add a version, complete before it is seen, the file's digest in its card. Raises ReleaseError where it exists."""
    target = model_file(root, contract.name, version).parent
    identity = {"model": contract.name, "version": version, "model_sha256": _digest(weights)}
    partial = target.with_name(f".{version}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        shutil.copyfile(weights, partial / "model.onnx")
        (partial / "card.json").write_text(json.dumps({**card, **identity}, indent=1, default=str) + "\n")
        # Fails where the folder exists: versions never change.
        partial.rename(target)
    except OSError as error:
        reason = "is published already" if target.exists() else f"cannot be written: {error.strerror}"
        raise ReleaseError(f"{contract.name} version {version} {reason}", field="version") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    config = root / contract.name / "config.pbtxt"
    if not config.exists():
        _write(config, config_pbtxt(contract))


def write_release(root: Path, release: Release, *, current: bool) -> None:
    """Write a manifest, which never changes once written, and let the pointer name it where it is to be `current`."""
    path = release_file(root, release.id)
    if path.exists():
        raise ReleaseError(f"release {release.id} exists already; releases never change", field="release")
    _check_complete(root, release, "release")
    _write(path, release_to_json(release))
    if current:
        _write(path.with_name(CURRENT), release.id + "\n")


def _check_complete(root: Path, release: Release, place: str) -> None:
    for model, version in release.models.items():
        if not model_file(root, model, version).is_file():
            raise ReleaseError(f"{model} has no version {version}", field=place)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ReleaseError(f"cannot be read: {reason}", field=_place(path)) from None


def _write(path: Path, text: str) -> None:
    """All of the text or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _place(path: Path) -> str:
    """The last parts of a path: enough to find the file by, without where the repository lies."""
    return "/".join(path.parts[-2:] if path.parent.name == RELEASES else path.parts[-3:])
