"""`boneage doctor --cluster`: what keeps a process in a pod from its work, by the settings that the pod has.

Every check has an end: what hangs is a fault like another, and nobody waits for it.
"""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.doctor import table_of
from services.cli.environment import Finding
from services.cli.server import Server
from services.cli.terminal import table_console
from services.client import open_channel, stage_tls
from services.core.adapters.addresses import PLACE
from services.core.adapters.pem_files import PemFiles
from services.core.errors import BoneageError, ConfigurationError
from services.core.runtime.settings import (
    GROUPS,
    PREFIX,
    ServerSettings,
    StageSettings,
    StageTlsSettings,
    read_settings,
)

STORE_DEADLINE_S: Final = 60.0
"""The store's own limits come first: some 26 s for each request that is not answered."""
NAMES_DEADLINE_S: Final = 15.0
SERVING_DEADLINE_S: Final = 10.0
LOOK_S: Final = 0.5
IN_TURN: Final[list[tuple[str, int | str]]] = [("grpc.lb_policy_name", "round_robin")]
"""Of several release services behind a name one serves: who asks only one of them may hear of another."""
SERVERS: Final = (*(name for name in StageSettings.model_fields if name.endswith("_address")), "release_address")
PLACES: Final = (*SERVERS, "model_hosts", "triton_url", "assessment_metrics")
"""Settings that name one server, and all that name addresses."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked at besides the settings: can the store be written, who answers, does a Pod find a node."""

    store_writable: bool = False
    services: bool = False
    server: Server = field(default_factory=Server)
    schedulable: Path | None = None


async def doctor_cluster(asked: Asked) -> int:
    """Print all findings and give the exit code: 1 if there is a fault."""
    findings = [finding async for finding in _findings(asked)]
    table_console().print(table_of(findings))
    return 1 if any(finding.fault for finding in findings) else 0


async def _findings(asked: Asked) -> AsyncIterator[Finding]:
    for finding in (*check_settings(), *check_certificates()):
        yield finding
    for finding in await _within(NAMES_DEADLINE_S, "names", check_names, fix="look whether DNS can be reached"):
        yield finding
    if asked.store_writable or _key("store") in os.environ:
        from services.cli.doctor_store import REACH, check_store  # noqa: PLC0415 -- needs the extra `release`

        check = partial(check_store, os.environ.get(_key("store"), ""), writable=asked.store_writable)
        for finding in await _within(STORE_DEADLINE_S, "store", check, fix=REACH):
            yield finding
    async for finding in check_services(asked):
        yield finding
    if asked.schedulable is not None:
        from services.cli.doctor_schedulable import check_schedulable  # noqa: PLC0415 -- needs the extra `cluster`

        yield await check_schedulable(asked.schedulable)


async def _within(seconds: float, name: str, check: Callable[[], Iterable[Finding]], *, fix: str) -> list[Finding]:
    """What a check finds, in a thread that nobody waits for any longer."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Finding]] = loop.create_future()

    def tell(findings: list[Finding]) -> None:
        if not found.done():
            found.set_result(findings)

    def work() -> None:
        findings = list(check())
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, findings)

    threading.Thread(target=work, daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await found
    except TimeoutError:
        return [Finding(name, f"no answer within {seconds:.0f} s", fix)]


def check_settings() -> Iterator[Finding]:
    """That the environment holds only settings that there are, with values that they take."""
    faults = {}
    for group in GROUPS:
        try:
            read_settings(group)
        except ConfigurationError as error:
            if error.field in os.environ:  # else it is another process's to be told
                faults[error.field] = str(error)
    for key, reason in faults.items():
        yield Finding("settings", reason, f"correct {key}, or leave it out")
    if not faults:
        yield Finding("settings", "all known")


def check_certificates() -> Iterator[Finding]:
    """That files of certificates are there, belong together, and hold now."""
    server, outgoing = read_settings(ServerSettings), read_settings(StageTlsSettings)
    sides = {
        "certificate": (server.tls_client_ca_file, server.tls_certificate_file, server.tls_key_file),
        "certificate for calls": (
            outgoing.stage_tls_ca_file, outgoing.stage_tls_certificate_file, outgoing.stage_tls_key_file,
        ),
    }  # fmt: skip
    for name, files in sides.items():
        if any(files):
            yield _certificate(name, *files)


def _certificate(name: str, *files: Path | None) -> Finding:
    fix = "look at the Secret that is mounted there: it needs tls.crt, tls.key and ca.crt that belong together"
    try:
        pems = PemFiles(*files).now
        ends = [_end(pems.certificate, first=True)] if pems.certificate else []
        ends += [_end(pems.authorities)] if pems.authorities else []
    except (BoneageError, ValueError) as error:
        return Finding(name, str(error), fix)
    if not all(ends):
        return Finding(name, "is not valid now", "have it renewed, by cert-manager or by replacing the Secret")
    return Finding(name, f"valid until {min(end for end in ends if end):%Y-%m-%d %H:%M} UTC")


def _end(pem: bytes, *, first: bool = False) -> datetime | None:
    """When the last of several authorities, or the first of a chain, ends; None where none is valid now."""
    from cryptography import x509  # noqa: PLC0415 -- comes with the extra `release`

    now, certificates = datetime.now(UTC), x509.load_pem_x509_certificates(pem)
    certificates = certificates[:1] if first else certificates
    valid = [one for one in certificates if one.not_valid_before_utc <= now < one.not_valid_after_utc]
    return max((one.not_valid_after_utc for one in valid), default=None)


def check_names() -> Iterator[Finding]:
    """That the names in addresses are known here."""
    places = [(key, match) for key in map(_key, PLACES) for match in PLACE.finditer(os.environ.get(key, ""))]
    faults = 0
    for key, match in places:
        try:
            socket.getaddrinfo(match["host"].strip("[]"), int(match["port"]))
        except OSError as error:
            faults += 1
            fix = f"look whether the Service of {key} is there and has pods, and whether DNS can be reached"
            yield Finding("names", f"{match['host']} is not found: {error.strerror}", fix)
    if places and not faults:
        yield Finding("names", f"all {len(places)} are found")


def _key(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


async def check_services(asked: Asked) -> AsyncIterator[Finding]:
    """That the servers which the settings name, and the one that is asked for, say SERVING."""
    try:
        tls = stage_tls(read_settings(StageTlsSettings))
    except ConfigurationError as error:
        yield Finding("services", str(error), "set all of BONEAGE_STAGE_TLS_*, or none")
        return
    named = [os.environ.get(key, "") for key in map(_key, SERVERS)] if asked.services else []
    servers = [Server(address, tls) for address in named if address]
    if asked.services and not servers:
        yield Finding("services", "no address of any is set", f"set {', '.join(map(_key, SERVERS))}")
    for server in (*servers, *((asked.server,) if asked.server.address else ())):
        reason = await _not_serving(server)
        fix = "look at its pods: `kubectl get pods`, `kubectl logs`" if reason else ""
        yield Finding("service", f"{server.address} {reason or 'is serving'}", fix)


async def _not_serving(server: Server) -> str:
    """Why a server does not say SERVING, asked until it does or the time is up; nothing where it does."""
    reason = "does not answer"
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(SERVING_DEADLINE_S),
            open_channel(server.address, IN_TURN, tls=server.tls) as channel,
        ):
            while reason:
                reason = await _health(channel)
                await asyncio.sleep(LOOK_S if reason else 0)
    return reason


async def _health(channel: grpc.aio.Channel) -> str:
    try:
        request = health_pb2.HealthCheckRequest()
        reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=SERVING_DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        return f"does not answer: {error.details()}"
    return "" if reply.status == health_pb2.HealthCheckResponse.SERVING else "is not ready"
