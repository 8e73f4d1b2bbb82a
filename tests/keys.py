"""Key pairs to sign releases with, made by the very commands that the documentation gives."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Keys:
    """PEM files of one pair."""

    private: Path
    public: Path


def make_keys(folder: Path, name: str = "release", *, curve: str = "prime256v1") -> Keys:
    """A fresh pair."""
    keys = Keys(folder / f"{name}.key", folder / f"{name}.pub")
    _openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", keys.private)
    _openssl("ec", "-in", keys.private, "-pubout", "-out", keys.public)
    return keys


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
