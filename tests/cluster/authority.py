"""Who the services are, by name and by certificate."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVING: Final = "boneage-test"
NAME: Final = "boneage"
COMPONENTS: Final = ("assessment", "segmentation", "enhancement", "regression", "cam", "release", "triton")


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose one certificate bears all names of the services."""

    folder: Path

    def make(self) -> dict[str, str]:
        """A new certificate, as the values of a Secret of the kind kubernetes.io/tls with ca.crt."""
        ca, ca_key = self.folder / "ca.crt", self.folder / "ca.key"
        ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        if not ca.exists():
            _openssl("req", "-x509", *ec, "-keyout", ca_key, "-out", ca, "-subj", "/CN=tests", "-days", "2")
        key, request, certificate = (self.folder / f"tls.{end}" for end in ("key", "csr", "crt"))
        names = [f"{NAME}-{component}{kind}{domain}" for component in COMPONENTS for kind in ("", "-instances")
                 for domain in ("", f".{SERVING}", f".{SERVING}.svc", f".{SERVING}.svc.cluster.local")]  # fmt: skip
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n")
        _openssl("req", *ec, "-keyout", key, "-out", request, "-subj", "/CN=boneage")
        signed = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extensions, "-days", "2")
        _openssl("x509", "-req", "-in", request, *signed, "-out", certificate)
        return {"tls.crt": certificate.read_text(), "tls.key": key.read_text(), "ca.crt": ca.read_text()}


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
