"""Finds the radiographs that a command was given."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from services.cli.usage import UsageError, printable

Kind = Literal["dicom", "encoded"]

SUFFIXES: Final[dict[str, Kind]] = {
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".png": "encoded",
    ".jpg": "encoded",
    ".jpeg": "encoded",
}
PREAMBLE_BYTES: Final = 128
DICOM_MAGIC: Final = b"DICM"
DIRECTORY_FILE: Final = "DICOMDIR"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One radiograph on disk.

    `id` is its path relative to the argument that it was found under, subfolders kept, without suffix; nothing of it
    comes from inside the file.
    """

    path: Path
    id: str
    kind: Kind


def collect(paths: Sequence[Path], *, leave_out: Path | None = None) -> list[InputFile]:
    """The radiographs at `paths`, folders searched to the bottom in sorted order; none from below `leave_out`.

    A folder gives DICOM, PNG and JPEG files, a file without suffix if it begins as DICOM files do; a file named on its
    own is always taken. Raises UsageError where a path does not exist or a folder holds nothing to read.
    """
    return [file for path in paths for file in _at(path, leave_out=leave_out)]


def refuse_collisions(files: Iterable[InputFile]) -> None:
    """Raise UsageError where two files would write the same artifacts."""
    count = Counter(file.id for file in files)
    if twice := [id_ for id_, number in count.items() if number > 1]:
        raise UsageError(
            f"several files share the id {printable(twice[0])!r}, so their artifacts would overwrite each other"
        )


def _at(path: Path, *, leave_out: Path | None) -> list[InputFile]:
    if path.is_dir():
        found = [file for file in _in_folder(path) if leave_out is None or not _inside(file.path, leave_out)]
        if not found:
            raise UsageError(f"{printable(path)} holds no DICOM, PNG or JPEG file")
        return found
    if not path.is_file():
        raise UsageError(
            f"{printable(path)} is neither a file nor a folder"
            if path.exists()
            else f"{printable(path)} does not exist"
        )
    return [InputFile(path, _without_suffix(path.name), SUFFIXES.get(path.suffix.lower()) or _kind_by_content(path))]


def _in_folder(folder: Path) -> Iterator[InputFile]:
    names = (Path(root, name) for root, folders, files in _walk(folder) for name in files)
    for path in sorted(names, key=lambda path: path.parts):
        kind = SUFFIXES.get(path.suffix.lower()) or ("dicom" if _begins_as_dicom(path) else None)
        if kind:
            relative = path.relative_to(folder)
            yield InputFile(path, relative.with_name(_without_suffix(path.name)).as_posix(), kind)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield (
            root,
            folders,
            [n for n in files if not n.startswith(".") and n != DIRECTORY_FILE and Path(root, n).is_file()],
        )


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


def _begins_as_dicom(path: Path) -> bool:
    # Names made of a UID end in ".123", which is no suffix.
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    return _kind_by_content(path) == "dicom"


def _kind_by_content(path: Path) -> Kind:
    """A file that cannot be opened counts as encoded here; reading it says why."""
    try:
        with path.open("rb") as file:
            head = file.read(PREAMBLE_BYTES + len(DICOM_MAGIC))
    except OSError:
        return "encoded"
    return "dicom" if head[PREAMBLE_BYTES:] == DICOM_MAGIC else "encoded"
