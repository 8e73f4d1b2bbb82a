"""Where a server is and how it is called: the options that every command which calls one shares."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from services.cli.usage import UsageError
from services.client import Tls

ServerOption = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Ask this server instead of starting one.")
]
# The variables are those by which services call each other: a pod that may call them has them already.
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="PEM", envvar="BONEAGE_STAGE_TLS_CA_FILE", help="Authorities of the server's certificate."
    ),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--certificate", metavar="PEM", envvar="BONEAGE_STAGE_TLS_CERTIFICATE_FILE", help="Your own certificate."
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="PEM", envvar="BONEAGE_STAGE_TLS_KEY_FILE", help="The key of your certificate."),
]


@dataclass(frozen=True, slots=True)
class Server:
    """An address, which may be none, and how it is called."""

    address: str = ""
    tls: Tls | None = None


def tls_of(ca: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    """How a server is called: over TLS where its authorities are named. Raises UsageError for half of it."""
    if bool(certificate) != bool(key) or (certificate and not ca):
        raise UsageError("--certificate and --key go together, with --ca")
    return Tls(ca, certificate, key) if ca else None
