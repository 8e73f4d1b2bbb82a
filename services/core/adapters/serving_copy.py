"""The folder that runtimes read, as the one process that fills it changes it: nothing half, nothing unchecked.

What is downloaded lies in a hidden folder of the same file system until it is compared, and is then renamed into place.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from services.core.adapters.model_repository import RELEASES
from services.core.adapters.store_errors import told

STAGING: Final = ".sync"
LOCK: Final = ".sync.lock"
READ_ONLY: Final = 0o444

Mark = tuple[int, int, int, int]
"""Size, times of change of content and of status (ns), inode: a file of the same mark is the same file."""


class ServingCopy:
    """Files by their place under `root`. Every method raises ReleaseError where the file system refuses it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._compared: dict[str, tuple[Mark, str]] = {}

    @contextmanager
    def changing(self) -> Iterator[Path]:
        """Nobody else changes the folder meanwhile; gives an empty one for what is being fetched."""
        staging = self.root / STAGING
        with told(LOCK):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / LOCK).open("wb")
        with lock:
            with told(STAGING):
                fcntl.flock(lock, fcntl.LOCK_EX)
                shutil.rmtree(staging, ignore_errors=True)  # of one that was killed
                staging.mkdir()
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return (self.root / path).exists()

    def is_right(self, path: str, digest: str) -> bool:
        """Whether the file is there with that SHA-256; read only if it was not compared since it last changed."""
        file = self.root / path
        with told(path):
            try:
                mark = _mark(file)
                if self._compared.get(path, (None, ""))[0] != mark:
                    self._compared[path] = mark, sha256_of(file)
            except FileNotFoundError:
                self._compared.pop(path, None)
                return False
        return self._compared[path][1] == digest

    def place(self, staged: Path, path: str) -> None:
        """Rename a file that was compared to its place, whatever was there."""
        with told(path):
            staged.chmod(READ_ONLY)
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(self.root / path)

    def place_folder(self, staged: Path, path: str) -> None:
        """Rename a folder of files that were compared to its place, where there is nothing."""
        with told(path):
            for file in staged.iterdir():
                file.chmod(READ_ONLY)
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            staged.rename(self.root / path)

    def write(self, path: str, content: bytes, staging: Path) -> None:
        """Write a file, all of it or nothing, unless it says so already."""
        if self.is_right(path, sha256(content).hexdigest()):
            return
        staged = staging / "written"
        with told(path):
            staged.write_bytes(content)
        self.place(staged, path)

    def remove(self, path: str, staging: Path) -> None:
        """Remove a file or a folder, at once for who looks."""
        with told(path):
            if not self.exists(path):
                return
            self._compared = {
                name: seen for name, seen in self._compared.items() if not f"{name}/".startswith(f"{path}/")
            }
            (self.root / path).rename(staging / "removed")
            if (staging / "removed").is_dir():
                shutil.rmtree(staging / "removed")
            else:
                (staging / "removed").unlink()

    def text(self, path: str) -> str:
        """What a file says; nothing where there is none."""
        with told(path):
            return (self.root / path).read_text(encoding="utf-8") if self.exists(path) else ""

    def releases(self) -> list[str]:
        """Ids of the manifests that are here."""
        return sorted(path.stem for path in (self.root / RELEASES).glob("[!.]*.json"))

    def versions(self) -> list[str]:
        """Folders NAME/VERSION that are here."""
        found = (path for path in self.root.glob("[!.]*/[0-9]*") if path.name.isdecimal() and path.is_dir())
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.parent.name != RELEASES)


def sha256_of(path: Path) -> str:
    """Digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _mark(path: Path) -> Mark:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
