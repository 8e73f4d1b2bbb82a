"""Certificates and keys on disk, as they are replaced there: taken up together, and only where they fit together.

Kubernetes replaces a folder of them in one moment, by a link. What is read before and after that moment is never mixed,
and what does not fit is not taken: what was there before goes on.
"""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog

from services.core.errors import ConfigurationError

Mark = tuple[tuple[int, int, int] | None, ...]
"""Time of change (ns), inode and size of each file; a file of the same mark is the same file."""


@dataclass(frozen=True, slots=True)
class Pems:
    """Authorities that others' certificates must come from, one's own certificate, its key; None where not set."""

    authorities: bytes | None
    certificate: bytes | None
    key: bytes | None


class PemFiles:
    """The files at these paths: authorities, certificate, key; `fields` name them where one is wrong.

    Raises ConfigurationError where they cannot be read, or the key is not the certificate's.
    """

    def __init__(self, *paths: Path | None, fields: Sequence[str] = ("tls",) * 3) -> None:
        self._paths, self._fields, self._lock = paths, fields, Lock()
        self._log = structlog.get_logger()
        self._fault = ""
        self._mark, self.now = self._read()

    def changed(self) -> Pems | None:
        """What is there since it was last asked, if that is new; what is wrong with it is told once.

        Any thread may ask.
        """
        with self._lock:
            if self._marked() == self._mark:
                return None
            try:
                mark, pems = self._read()
            except ConfigurationError as error:
                if str(error) != self._fault:
                    self._log.error("certificates not taken up", reason=str(error))
                self._fault = str(error)
                return None
            before, self._mark, self.now, self._fault = self.now, mark, pems, ""
        if pems == before:
            return None
        self._log.info("certificates taken up", files=[str(path) for path in self._paths if path])
        return pems

    def _read(self) -> tuple[Mark, Pems]:
        mark = self._marked()
        pems = Pems(*map(_content, self._paths, self._fields))
        self._check(*self._paths)
        if self._marked() != mark:  # else what was checked is what was read
            raise ConfigurationError("is being replaced", field=self._fields[1])
        return mark, pems

    def _check(self, authorities: Path | None, certificate: Path | None, key: Path | None) -> None:
        """That Python itself would load them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if authorities is not None:
            with _told(f"{authorities}", self._fields[0]):
                context.load_verify_locations(authorities)
        if certificate is not None:
            with _told(f"{certificate} and {key}", self._fields[1]):
                context.load_cert_chain(certificate, key, password=lambda: "")  # else it asks the terminal for one

    def _marked(self) -> Mark:
        return tuple(map(_mark, self._paths))


@contextmanager
def _told(place: str, field: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, OSError) as error:
        mismatch = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        reason = "the key is not the certificate's" if mismatch else "no PEM that can be used"
        raise ConfigurationError(f"{place}: {reason}", field=field) from None


def _content(path: Path | None, field: str) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", field=field) from None


def _mark(path: Path | None) -> tuple[int, int, int] | None:
    try:
        status = path.stat() if path else None
    except OSError:  # in the moment of being replaced
        return (0, 0, 0)
    return status and (status.st_mtime_ns, status.st_ino, status.st_size)
