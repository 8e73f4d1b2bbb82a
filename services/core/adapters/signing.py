"""Signs manifests and tells whose signature one bears: PyPI's `model-signing` with elliptic keys, Sigstore bundles.

A manifest names the digest of every file that it pins, so that one signature covers a whole release. The library takes
half a second to import and is not installed where nothing is signed or verified: it is imported where it is used.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from services.core.adapters.store_errors import told
from services.core.errors import ConfigurationError, ReleaseError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def sign(data: bytes, *, name: str, private_key: Path) -> bytes:
    """A Sigstore bundle over these bytes as a file of that name. Raises ConfigurationError for a key that is none."""
    from model_signing import signing  # noqa: PLC0415 -- see above

    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # noqa: BLE001 -- cryptography and OpenSSL raise a dozen types, all of them meaning the key
        raise ConfigurationError(f"is no private key to sign with: {_why(error)}", field=private_key.name) from None
    with _files(name, data, b"") as (signed, signature):
        signer.sign(signed, signature)
        return signature.read_bytes()


def is_signed_with(data: bytes, signature: bytes, *, name: str, private_key: Path) -> bool:
    """Whether this signature is of these bytes, by this key, with which `sign` has signed."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- see above

    key = serialization.load_pem_private_key(private_key.read_bytes(), None).public_key()
    try:
        _check(data, signature, _pem(key), name)
    except ReleaseError:
        return False
    return True


class Trust:
    """The public keys that releases may be signed with: several, so that a new key can come before the old one goes.

    Without any, everything is trusted. Raises ConfigurationError for a key that cannot be read.
    """

    def __init__(self, public_keys: Sequence[Path] = ()) -> None:
        self._keys = dict(_public_key(path) for path in public_keys)

    def __bool__(self) -> bool:
        """Whether a signature is demanded."""
        return bool(self._keys)

    def verify(self, data: bytes, signature: bytes | None, *, name: str) -> str:
        """SHA-256 of the public key (PEM, SubjectPublicKeyInfo) that signed these bytes; "" where none is demanded.

        Raises ReleaseError at `name`: it is not signed, or by none of the keys, or it is not what was signed.
        """
        if not self._keys:
            return ""
        if signature is None:
            raise ReleaseError("is not signed", field=name)
        named = _key_named_in(signature, name)
        if named not in self._keys:
            raise ReleaseError("is signed by a key that is not trusted here", field=name)
        _check(data, signature, self._keys[named], name)
        return named


def _public_key(path: Path) -> tuple[str, bytes]:
    """A key by its SHA-256, as `model-signing` names it in what it signs."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- see above
    from model_signing import verifying  # noqa: PLC0415

    try:
        verifying.Config().use_elliptic_key_verifier(public_key=path)  # refuses other kinds and curves
        key = serialization.load_pem_public_key(path.read_bytes())
    except Exception as error:  # noqa: BLE001 -- cryptography and OpenSSL raise a dozen types, all of them meaning the key
        raise ConfigurationError(f"is no public key to verify with: {_why(error)}", field=path.name) from None
    pem = _pem(key)
    return sha256(pem).hexdigest(), pem


def _pem(key: "PublicKeyTypes") -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- see above

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _key_named_in(signature: bytes, name: str) -> str:
    """The key that a bundle says it was made with; whether it was, is yet to be checked."""
    try:
        bundle: dict[str, Any] = json.loads(signature)
        return str(bundle["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError):
        raise ReleaseError("is not signed: what stands for the signature is none", field=name) from None


def _check(data: bytes, signature: bytes, public_key: bytes, name: str) -> None:
    from model_signing import verifying  # noqa: PLC0415 -- see above

    with _files(name, data, signature) as (signed, bundle), TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        key.write_bytes(public_key)
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(signed, bundle)
        except Exception:  # noqa: BLE001 -- whatever the library finds wrong, these bytes are not what that key signed
            raise ReleaseError("is not what was signed", field=name) from None


@contextmanager
def _files(name: str, data: bytes, signature: bytes) -> Iterator[tuple[Path, Path]]:
    """Both as files, since the library signs and verifies only those."""
    with TemporaryDirectory() as folder:
        paths = Path(folder) / Path(name).name, Path(folder) / ".signature"
        with told(name):
            for path, content in zip(paths, (data, signature), strict=True):
                path.write_bytes(content)
        yield paths


def _why(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
