"""Who may change something: callers known by a bearer token or by the client certificate that they show.

The file is JSON: {"callers": [{"name": "operations", "token_sha256": "...", "rights": ["promote", "rollback"]},
{"name": "ci", "certificate": "COMMON NAME", "rights": ["canary"]}]}. It holds digests, no tokens. It is read again
when it changes, so that a token can be withdrawn without a restart.
"""

import hmac
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import grpc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.core.errors import ConfigurationError, PermissionDeniedError, UnauthenticatedError

Right = Literal["promote", "canary", "shadow", "rollback", "collect"]
AUTHORIZATION: Final = "authorization"
BEARER: Final = "bearer "
COMMON_NAME: Final = "x509_common_name"
FIELD: Final = "BONEAGE_CALLERS_FILE"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Caller(_Part):
    """Somebody who is known, by the SHA-256 of a token or the common name of a certificate, and what is allowed."""

    name: Annotated[str, Field(min_length=1)]
    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    certificate: Annotated[str, Field(min_length=1)] | None = None
    rights: frozenset[Right]


class _File(_Part):
    callers: list[Caller]


class Callers:
    """Those in the file at `path`; without one nobody may do anything. Raises ConfigurationError for a bad file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._callers: list[Caller] = []
        self._refresh()

    def require(self, context: grpc.aio.ServicerContext[Any, Any], right: Right) -> str:
        """The name of who calls. Raises UnauthenticatedError for a stranger, else PermissionDeniedError."""
        self._refresh()
        caller = self._by_token(context) or self._by_certificate(context)
        if caller is None:
            raise UnauthenticatedError("a token or certificate of somebody known here is needed", field=AUTHORIZATION)
        if right not in caller.rights:
            raise PermissionDeniedError(f"{caller.name} may not {right}", field=AUTHORIZATION)
        return caller.name

    def _by_token(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller | None:
        given = dict(context.invocation_metadata() or ()).get(AUTHORIZATION, "")
        text = given if isinstance(given, str) else given.decode("utf-8", "replace")
        if not text.lower().startswith(BEARER):
            return None
        digest = sha256(text[len(BEARER) :].strip().encode()).hexdigest()
        return next((c for c in self._callers if c.token_sha256 and hmac.compare_digest(c.token_sha256, digest)), None)

    def _by_certificate(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller | None:
        """By the common name of a certificate that the server's own authorities have signed."""
        names = {name.decode("utf-8", "replace") for name in context.auth_context().get(COMMON_NAME, ())}
        return next((caller for caller in self._callers if caller.certificate in names), None)

    def _refresh(self) -> None:
        """Read the file again where it changed; a bad one lets nobody in that the last good one did not."""
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            now = (stat.st_mtime_ns, stat.st_ino)
            if now != self._read_at:
                self._callers = _File.model_validate_json(self._path.read_bytes()).callers
                self._read_at = now
        except (OSError, ValidationError) as error:
            self._callers = []
            self._read_at = None
            reason = error.strerror if isinstance(error, OSError) else f"{error.errors()[0]['msg'].lower()}"
            raise ConfigurationError(f"cannot be used: {reason}", field=FIELD) from None
