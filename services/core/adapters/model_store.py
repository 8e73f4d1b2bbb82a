"""A model repository on disk, in Triton's own layout, with the releases that pin its versions.

    NAME/config.pbtxt  NAME/VERSION/model.onnx  NAME/VERSION/card.json  releases/ID.json  releases/current
"""

import json
import os
import shutil
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from services.core.adapters.release_manifest import release_from_json, release_to_json
from services.core.adapters.triton_config import config_pbtxt
from services.core.domain import postprocess, preprocess
from services.core.domain.contracts import ModelContract
from services.core.domain.release import Release
from services.core.errors import ReleaseError, UnknownReleaseError

RELEASES: Final = "releases"
CURRENT: Final = "current"


@cache
def preprocessing_sha256() -> str:
    """Digest of the code that prepares pixels and reads masks: a release is only right with the code it was made with."""
    digest = sha256()
    for module in (preprocess, postprocess):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def model_file(root: Path, model: str, version: int) -> Path:
    """Where the weights of a version lie."""
    return root / model / str(version) / "model.onnx"


class ReleaseStore:
    """The releases of a repository, read and checked when it is opened. Raises ReleaseError for a damaged one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._releases = {release.id: release for release in map(self._read, self._manifests())}
        self.current = self._current()

    def get(self, release_id: str = "") -> Release:
        """The release of that id, or the current one for an empty id. Raises UnknownReleaseError."""
        release = self._releases.get(release_id or self.current)
        if release is None:
            raise UnknownReleaseError(f"no release {release_id!r} is served here", field="release")
        return release

    def ids(self) -> list[str]:
        """All releases, in order of their ids."""
        return sorted(self._releases)

    def card(self, model: str, version: int) -> dict[str, Any]:
        """The card of a version. Raises ReleaseError where it is missing or damaged."""
        path = self.root / model / str(version) / "card.json"
        try:
            card = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ReleaseError(f"the card cannot be read: {error}", field=_place(path)) from None
        if not isinstance(card, dict):
            raise ReleaseError("a card is a JSON object", field=_place(path))
        return card

    def _manifests(self) -> list[Path]:
        folder = self.root / RELEASES
        manifests = sorted(folder.glob("*.json"))
        if not manifests:
            raise ReleaseError(f"no releases in {folder}", field="model repository")
        return manifests

    def _read(self, path: Path) -> Release:
        release = release_from_json(path.read_text(), source=_place(path))
        if release.id != path.stem:
            raise ReleaseError(f"the manifest says that it is release {release.id!r}", field=_place(path))
        if release.preprocessing_sha256 != preprocessing_sha256():
            raise ReleaseError("made with other preprocessing than this program's", field=_place(path))
        for model, version in release.models.items():
            if not model_file(self.root, model, version).is_file():
                raise ReleaseError(f"{model} has no version {version}", field=_place(path))
        return release

    def _current(self) -> str:
        path = self.root / RELEASES / CURRENT
        try:
            current = path.read_text().strip()
        except OSError as error:
            raise ReleaseError(f"the pointer cannot be read: {error.strerror}", field=_place(path)) from None
        if current not in self._releases:
            raise ReleaseError(f"points to {current!r}, which is no release here", field=_place(path))
        return current


def publish_model(
    root: Path, contract: ModelContract, version: int, weights: Path, card: Mapping[str, object]
) -> None:
    """Add a version: claimed by making its folder, complete before it is seen. Raises ReleaseError where it exists."""
    target = root / contract.name / str(version)
    if target.exists():
        raise ReleaseError(f"{contract.name} {version} is published already; versions never change", field="version")
    partial = target.with_name(f".{version}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        shutil.copyfile(weights, partial / "model.onnx")
        (partial / "card.json").write_text(json.dumps(card, indent=1, default=str) + "\n")
        partial.rename(target)
    except OSError as error:
        raise ReleaseError(f"{contract.name} {version} cannot be written: {error.strerror}", field="version") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    config = root / contract.name / "config.pbtxt"
    if not config.exists():
        _write(config, config_pbtxt(contract))


def write_release(root: Path, release: Release, *, current: bool) -> None:
    """Write a manifest, which never changes once written, and let the pointer name it where it is to be `current`."""
    path = root / RELEASES / f"{release.id}.json"
    if path.exists():
        raise ReleaseError(f"release {release.id} exists already; releases never change", field="release")
    for model, version in release.models.items():
        if not model_file(root, model, version).is_file():
            raise ReleaseError(f"{model} has no version {version}", field="release")
    _write(path, release_to_json(release))
    if current:
        _write(path.with_name(CURRENT), release.id + "\n")


def _write(path: Path, text: str) -> None:
    """All of the text or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def _place(path: Path) -> str:
    """The last parts of a path: enough to find the file by, without where the repository lies."""
    return "/".join(path.parts[-3:] if path.name == "card.json" else path.parts[-2:])
