"""The model store, where training publishes to: a folder or an object store, behind one set of atomic operations.

Paths are relative to the store's root, with slashes. What a backend raises becomes a ReleaseError that names the path
and the reason; the store's own URL, which may hold credentials, is never told.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from services.core.adapters.store_errors import NOT_FOUND, told
from services.core.errors import ConfigurationError, ReleaseError

BLOCK_BYTES: Final = 2**20
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    # Botocore waits a minute for an answer and asks five times: nobody would learn that the store is down.
    "s3": {"config_kwargs": {"connect_timeout": 3, "read_timeout": 10, "retries": {"total_max_attempts": 2}}},
}
"""By protocol, in seconds; credentials and endpoint come from the environment, as every S3 client reads them."""


class Store:
    """What lies under one URL: a path, file://FOLDER, s3://BUCKET/PREFIX or whatever else fsspec knows.

    Raises ConfigurationError for a URL of an unknown kind, or one whose client is not installed.
    """

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            self._files, root = fsspec.url_to_fs(
                url, skip_instance_cache=True, use_listings_cache=False, **OPTIONS.get(protocol, {})
            )
        except (ValueError, ImportError):
            raise ConfigurationError(f"no client for {protocol}:// is installed", field="store") from None
        self._files.retries = 1  # s3fs would ask five times what botocore has asked twice already
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine; None where it is elsewhere."""
        return Path(self._root) if self._local else None

    def check(self) -> None:
        """Raises ReleaseError where the folder or bucket is not there, or must not be looked into."""
        with told("store"):
            self._files.info(self._root if self._local else self._root.partition("/")[0])

    def read(self, path: str) -> bytes:
        """All of a file. Raises ReleaseError."""
        with told(path):
            return bytes(self._files.cat_file(self._at(path)))

    def download(self, path: str, target: Path) -> None:
        """Copy a file to this machine; where that fails, part of it may be at `target`. Raises ReleaseError."""
        with told(path):
            self._files.get_file(self._at(path), str(target))

    def sha256(self, path: str) -> str:
        """Digest of a file, read block by block. Raises ReleaseError."""
        digest = sha256()
        with told(path), self._files.open(self._at(path), "rb", block_size=BLOCK_BYTES) as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def exists(self, path: str) -> bool:
        """Whether there is a file, or a folder with something in it. Raises ReleaseError."""
        try:
            with told(path):
                self._files.info(self._at(path))
        except ReleaseError as error:
            if error.reason == NOT_FOUND:
                return False
            raise
        return True

    def list(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder, in order; none where it is not there. Raises ReleaseError."""
        try:
            with told(folder):
                found = self._files.ls(self._at(folder), detail=False)
        except ReleaseError as error:
            if error.reason == NOT_FOUND:
                return []
            raise
        # An object store may hold a mark of the folder itself, and names it too.
        names = {PurePosixPath(str(path)).name for path in found if str(path).rstrip("/") != self._at(folder)}
        return sorted(name for name in names if not name.startswith("."))

    def create(self, path: str, data: bytes) -> None:
        """Write a file that is not there, all of it or nothing. Raises ReleaseError, also where it exists.

        Of several who do so at once, exactly one succeeds.
        """
        with told(path):
            if self._local:
                with self._written(path, data) as partial:
                    os.link(partial, self._at(path))
            else:
                self._files.pipe_file(self._at(path), data, mode="create")

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, all of it or nothing, whether it is there or not. Raises ReleaseError."""
        with told(path):
            if self._local:
                with self._written(path, data) as partial:
                    partial.replace(self._at(path))
            else:
                self._files.pipe_file(self._at(path), data)

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is none to delete. Raises ReleaseError."""
        with told(path), suppress(FileNotFoundError):
            self._files.rm_file(self._at(path))
            if self._local:
                self._prune(Path(self._at(path)).parent)

    def _at(self, path: str) -> str:
        if not path or ".." in path.split("/") or path.startswith("/"):
            raise ReleaseError("is no path inside of the store", field=path)
        return f"{self._root}/{path}"

    @contextmanager
    def _written(self, path: str, data: bytes) -> Iterator[Path]:
        """The data in a file beside `path`, hidden from listings, and gone again at the end."""
        target = Path(self._at(path))
        partial = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            _write(partial, data)
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _prune(self, folder: Path) -> None:
        """Remove folders that are empty: in an object store there are none."""
        with suppress(OSError):
            while folder != Path(self._root):
                folder.rmdir()
                folder = folder.parent


def _write(path: Path, data: bytes) -> None:
    """Write it and have it on the disk: a name must never come to stand for what a power cut took."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("wb")
    except FileNotFoundError:  # whoever deleted the last file in it took the folder along
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    with file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
