"""Channels over TLS with certificates from files, which may be replaced on disk while calls are made."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc

from services.core.adapters.pem_files import PemFiles, Pems
from services.core.errors import ConfigurationError
from services.core.runtime.settings import StageTlsSettings

LOOK_S: Final = 1.0
GRACE_S: Final = 300.0
"""That calls on a channel which is replaced may still take: the longest deadline."""

OpenChannel = Callable[[grpc.ChannelCredentials], grpc.aio.Channel]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authorities that the server's certificate must come from, and for mutual TLS one's own."""

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None

    def files(self) -> PemFiles:
        """What is in them. Raises ConfigurationError where a file cannot be read, or the key is another's."""
        return PemFiles(self.ca_file, self.certificate_file, self.key_file)


def stage_tls(settings: StageTlsSettings) -> Tls | None:
    """How the services of this system reach each other: over TLS where authorities are given.

    Raises ConfigurationError where only a certificate is: nothing would be called with it.
    """
    authorities, certificate = settings.stage_tls_ca_file, settings.stage_tls_certificate_file
    if authorities is None:
        if certificate is not None:
            raise ConfigurationError("set the authorities too", field="BONEAGE_STAGE_TLS_CA_FILE")
        return None
    return Tls(authorities, certificate, settings.stage_tls_key_file)


def _credentials(pems: Pems) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(pems.authorities, pems.key, pems.certificate)


class RenewedChannel(grpc.aio.Channel):
    """A channel that takes up certificates as they change on disk: gRPC itself reads them but once.

    A second channel is opened with the new ones, and takes all calls once it is connected; where it does not come to
    that, the first goes on. Calls that were begun on it end there. Made inside a running event loop.
    """

    def __init__(self, tls: Tls, open_channel: OpenChannel) -> None:
        self._files, self._open = tls.files(), open_channel
        self.current = open_channel(_credentials(self._files.now))
        self._replaced = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        coming: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if pems := self._files.changed():
                    if coming is not None:
                        coming.cancel()
                    coming = asyncio.create_task(self._connect(self._open(_credentials(pems))))
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _connect(self, coming: grpc.aio.Channel) -> None:
        """Have a channel take over once it is connected; cancelled before that, it is closed."""
        try:
            await coming.channel_ready()
        except asyncio.CancelledError:
            await coming.close(None)
            raise
        leaving, self.current = self.current, coming
        self._replaced.set()
        self._replaced = asyncio.Event()
        closing = asyncio.create_task(leaving.close(GRACE_S))
        self._leaving.add(closing)
        closing.add_done_callback(self._leaving.discard)

    async def close(self, grace: float | None = None) -> None:
        """Close it, with what it has replaced."""
        self._following.cancel()
        for closing in self._leaving:
            closing.cancel()
        await asyncio.gather(self._following, *self._leaving, return_exceptions=True)
        await self.current.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 -- gRPC's own
        """As the channel that takes calls now has it."""
        return self.current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for another state, of whichever channel takes calls then."""
        while self.get_state() is last_observed_state:
            await _first(self.current.wait_for_state_change(last_observed_state), self._replaced.wait())

    async def channel_ready(self) -> None:
        """Wait until it is connected."""
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A method, called on whichever channel takes calls then; so are the others."""
        return _Method(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, "stream_stream", args, kwargs)


class _Method:
    """A method of whichever channel takes calls at the time of a call."""

    def __init__(self, owner: RenewedChannel, kind: str, args: Any, kwargs: Any) -> None:
        self._owner, self._kind, self._args, self._kwargs = owner, kind, args, kwargs
        self._channel: grpc.aio.Channel | None = None
        self._callable: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._channel is not self._owner.current:
            self._channel = self._owner.current
            self._callable = getattr(self._channel, self._kind)(*self._args, **self._kwargs)
        return self._callable(*args, **kwargs)


async def _first(*waiting: Coroutine[Any, Any, Any]) -> None:
    """Wait for one of several things, and let go of the others."""
    tasks = [asyncio.create_task(one) for one in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
