"""What `boneage release` shows and does, through the release service."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.table import Table

from boneage.v1 import release_pb2
from services.cli.server import Server
from services.cli.terminal import table_console
from services.cli.usage import UsageError, printable
from services.client import ReleaseClient
from services.core.domain.routing import Routing

PREFIX: Final = "RELEASE_STATUS_"


@dataclass(frozen=True, slots=True)
class ReleaseServer(Server):
    """Where the release service is, and how it is asked."""

    token_file: Path | None = None

    def client(self) -> ReleaseClient:
        """A client of it. Raises UsageError where the token cannot be read."""
        return ReleaseClient(self.address, tls=self.tls, token=self._token())

    def _token(self) -> str:
        try:
            return self.token_file.read_text(encoding="utf-8").strip() if self.token_file else ""
        except OSError as error:
            raise UsageError(f"--token-file {self.token_file}: {error.strerror}") from error


async def show_list(server: ReleaseServer, *, as_json: bool) -> int:
    """All releases, one line each."""
    async with server.client() as client:
        reply = await client.list()
    if as_json:
        print(_json(reply))
        return 0
    table = Table("release", "status", "models", "baseline MAE", "reason")
    for release in reply.releases:
        role = status_text(release.status)
        if release.status == release_pb2.RELEASE_STATUS_CANARY:
            role = f"{role}, {reply.routing.canary_permille / 10:g}%"
        table.add_row(*map(printable, (release.id, role, _models(release), _mae(release), release.reason)))
    table_console().print(table)
    return 0


async def show_one(server: ReleaseServer, release: str, *, as_json: bool) -> int:
    """One release with everything that was done with it."""
    async with server.client() as client:
        reply = await client.get(release)
    print(_json(reply) if as_json else "\n".join(_lines(reply)))
    return 0


def _lines(reply: release_pb2.GetResponse) -> Iterator[str]:
    summary = reply.summary
    yield f"{printable(summary.id)}: {status_text(summary.status)}"
    if summary.reason:
        yield f"  reason: {printable(summary.reason)}"
    if summary.models:
        yield f"  models: {_models(summary)}"
    if _mae(summary):
        yield f"  baseline MAE: {_mae(summary)}"
    for event in reply.events:
        detail = f": {event.detail}" if event.detail else ""
        yield f"  {printable(event.time)}  {event.action} by {printable(event.caller)}{printable(detail)}"


async def verify(server: ReleaseServer, release: str) -> int:
    """Check signature and digests; an error says what is wrong."""
    async with server.client() as client:
        reply = await client.verify(release)
    signed = f"signed with key {reply.key_sha256[:16]}" if reply.key_sha256 else "no signature is asked for here"
    print(f"{printable(release)}: {reply.files} files are those that were published; {signed}")
    return 0


async def promote(server: ReleaseServer, release: str) -> int:
    """Let a release answer everything."""
    async with server.client() as client:
        return _told(await client.promote(release))


async def canary(server: ReleaseServer, release: str, permille: int) -> int:
    """Let a release answer a share of the studies, or end that."""
    async with server.client() as client:
        return _told(await client.canary(release, permille))


async def shadow(server: ReleaseServer, release: str) -> int:
    """Let a release read along, or end that."""
    async with server.client() as client:
        return _told(await client.shadow(release))


async def rollback(server: ReleaseServer, reason: str) -> int:
    """Go back to the previous release."""
    async with server.client() as client:
        return _told(await client.rollback(reason))


async def collect(server: ReleaseServer, *, keep: int, dry_run: bool) -> int:
    """Delete what is needed no more."""
    async with server.client() as client:
        reply = await client.collect_garbage(keep=keep, dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    print(f"{verb} releases: {', '.join(reply.releases) or 'none'}")
    print(f"{verb} versions: {', '.join(reply.versions) or 'none'}")
    return 0


def status_text(status: "release_pb2.ReleaseStatus.ValueType") -> str:
    """A status as people read it."""
    return release_pb2.ReleaseStatus.Name(status).removeprefix(PREFIX).lower()


def _told(routing: Routing) -> int:
    parts = [f"current {routing.current}"]
    parts += [f"previous {routing.previous}"] if routing.previous else []
    parts += [f"canary {routing.canary} ({routing.canary_permille / 10:g}%)"] if routing.canary else []
    parts += [f"shadow {routing.shadow}"] if routing.shadow else []
    print(", ".join(parts))
    return 0


def _models(release: release_pb2.ReleaseSummary) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(release.models.items()))


def _mae(release: release_pb2.ReleaseSummary) -> str:
    return f"{release.baseline_mae_months:.1f} months" if release.HasField("baseline_mae_months") else ""


def _json(message: Message) -> str:
    return json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=1)
