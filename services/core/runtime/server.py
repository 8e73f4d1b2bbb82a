"""One gRPC server with everything a hospital expects of it: health, reflection, metrics, limits, TLS, a clean stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.core.adapters.pem_files import PemFiles, Pems
from services.core.errors import ConfigurationError
from services.core.runtime.admission import Admission
from services.core.runtime.health import Health
from services.core.runtime.interceptors import CallInterceptor
from services.core.runtime.settings import ServerSettings
from services.core.runtime.telemetry import Telemetry

KEEPALIVE_S: Final = 20
LEAST_PING_INTERVAL_S: Final = 1
TLS_FIELDS: Final = ("BONEAGE_TLS_CLIENT_CA_FILE", "BONEAGE_TLS_CERTIFICATE_FILE", "BONEAGE_TLS_KEY_FILE")

AddToServer = Callable[[Any, grpc.aio.Server], None]


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer, under its full name, and the generated function that adds it to a server."""

    name: str
    servicer: object
    add_to_server: AddToServer


def create_server(
    settings: ServerSettings,
    registrations: Sequence[Registration],
    *,
    health: Health,
    telemetry: Telemetry,
    admission: Admission,
) -> grpc.aio.Server:
    """A server with the servicers, health and reflection; it listens nowhere yet."""
    server = grpc.aio.server(interceptors=[CallInterceptor(telemetry, admission)], options=server_options(settings))
    for registration in registrations:
        registration.add_to_server(registration.servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    names = (*(registration.name for registration in registrations), health_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server


def server_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """Limits on messages and connections, as channel arguments."""
    return [
        ("grpc.max_receive_message_length", settings.maximum_message_bytes),
        ("grpc.max_send_message_length", settings.maximum_message_bytes),
        ("grpc.max_connection_age_ms", round(settings.connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.connection_grace_s * 1000)),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    ]


def listen(server: grpc.aio.Server, settings: ServerSettings) -> int:
    """Open the port, with TLS where there is a certificate, and give it. Raises ConfigurationError."""
    address = f"{settings.host}:{settings.grpc_port}"
    credentials = server_credentials(settings)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {address}", field="BONEAGE_GRPC_PORT") from error


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """TLS from files, mutual where clients' authorities are given; None without a certificate.

    Each connection gets what is on disk then, so that certificates can be replaced while calls are answered.
    """
    authorities, certificate, key = settings.tls_client_ca_file, settings.tls_certificate_file, settings.tls_key_file
    if certificate is None:
        if authorities or key:
            raise ConfigurationError("set the certificate too", field=TLS_FIELDS[1])
        return None
    if key is None:
        raise ConfigurationError("not set", field=TLS_FIELDS[2])
    files = PemFiles(authorities, certificate, key, fields=TLS_FIELDS)

    def replaced() -> grpc.ServerCertificateConfiguration | None:
        pems = files.changed()
        return None if pems is None else _configuration(pems)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files.now),
        replaced,  # type: ignore[arg-type]  # None stands for no change, which the stubs do not know
        require_client_authentication=authorities is not None,
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    assert pems.key is not None, "a server has both"
    assert pems.certificate is not None, "a server has both"
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.authorities)
