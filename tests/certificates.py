"""Authorities, certificates, and folders of them that are replaced in one moment, as Kubernetes mounts a Secret."""

import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from services.client import Tls

FILES = ("tls.crt", "tls.key", "ca.crt")
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Authority:
    """One that signs certificates, in a folder of its own."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """A fresh one."""
        folder.mkdir(parents=True)
        _openssl("req", "-x509", *EC, "-keyout", folder / "ca.key", "-out", folder / "ca.crt",
                 "-subj", f"/CN=authority {folder.name}", "-days", "2")  # fmt: skip
        return cls(folder)

    @property
    def certificate(self) -> str:
        """Its own, in PEM."""
        return (self.folder / "ca.crt").read_text()

    def issue(self, names: str = "DNS:localhost,IP:127.0.0.1", *, trusted: str = "") -> dict[str, str]:
        """A certificate for these names with its key, and the authorities that whoever has it trusts."""
        own = self.folder / str(next(NUMBERS))
        key, request, extensions, certificate = (own.with_suffix(f".{end}") for end in ("key", "csr", "ext", "crt"))
        _openssl("req", *EC, "-keyout", key, "-out", request, "-subj", "/CN=a service")
        extensions.write_text(f"subjectAltName={names}\n")
        signed = ("-CA", self.folder / "ca.crt", "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *signed, "-extfile", extensions, "-days", "2", "-out", certificate)
        contents = (certificate.read_text(), key.read_text(), trusted or self.certificate)
        return dict(zip(FILES, contents, strict=True))


class MountedSecret:
    """A folder as Kubernetes shows a Secret: links to a folder that is replaced as a whole."""

    def __init__(self, folder: Path, contents: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.replace(contents)
        for name in FILES:
            (folder / name).symlink_to(Path("..data") / name)

    def replace(self, contents: dict[str, str]) -> None:
        """Put other contents there, in one moment."""
        version = self.folder / f"..{next(NUMBERS)}"
        version.mkdir()
        for name, content in contents.items():
            (version / name).write_text(content)
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")

    @property
    def tls(self) -> Tls:
        """As a client uses it."""
        return Tls(self.folder / "ca.crt", self.folder / "tls.crt", self.folder / "tls.key")

    def server(self) -> dict[str, Path]:
        """As the settings of a server that asks for certificates."""
        certificate, key, ca = (self.folder / name for name in FILES)
        return {"tls_certificate_file": certificate, "tls_key_file": key, "tls_client_ca_file": ca}

    def outgoing(self) -> dict[str, Path]:
        """As the settings of who calls other services."""
        return {key.replace("tls_", "stage_tls_").replace("client_", ""): path for key, path in self.server().items()}


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
