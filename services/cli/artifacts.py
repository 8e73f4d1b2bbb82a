"""Writes the pictures and the record of a reading beside each other, each file whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.cli.files import InputFile
from services.cli.reading import Reading
from services.cli.usage import UsageError, printable

PICTURES: Final[Mapping[str, str]] = {
    "mask_png": ".mask.png",
    "enhanced_png": ".enhanced.png",
    "cam_png": ".cam.png",
}
RECORD_SUFFIX: Final = ".json"


def write_artifacts(reading: Reading, folder: Path) -> None:
    """Write ID.mask.png, ID.enhanced.png, ID.cam.png and ID.json below `folder`.

    A picture that this reading does not have is removed, so that none of an earlier run stays beside another's record.
    """
    for field, suffix in PICTURES.items():
        target = target_of(folder, reading.file, suffix)
        picture = getattr(reading.response.artifacts, field) if reading.response is not None else b""
        if picture:
            write_atomically(target, picture)
        else:
            target.unlink(missing_ok=True)
    text = json.dumps(reading.record(), indent=2) + "\n"
    write_atomically(target_of(folder, reading.file, RECORD_SUFFIX), text.encode())


def refuse_overwriting(files: list[InputFile], folder: Path) -> None:
    """Raise UsageError where an artifact would take the place of a file that is to be read."""
    inputs = {file.path.resolve() for file in files}
    for file in files:
        for suffix in (*PICTURES.values(), RECORD_SUFFIX):
            if target_of(folder, file, suffix).resolve() in inputs:
                raise UsageError(
                    f"the artifacts of {printable(file.path)} would overwrite another input; choose another folder"
                )


def target_of(folder: Path, file: InputFile, suffix: str) -> Path:
    """Where an artifact of `file` goes."""
    return folder / (file.id + suffix)


def write_atomically(target: Path, content: bytes) -> None:
    """Write `content` to `target` by renaming a finished file into place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
