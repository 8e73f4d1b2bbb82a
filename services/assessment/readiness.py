"""Follows the stages' health: the assessment is ready while every stage is."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import grpc
import structlog

# A connection is renewed every few seconds; only a stage that stays away for longer is gone.
PATIENCE_S: Final = 2.0
READY: Final = grpc.ChannelConnectivity.READY


class StageReadiness:
    """Tells `report` whether all channels have a server behind them that says SERVING."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], report: Callable[[bool], Awaitable[None]]) -> None:
        self._channels = channels
        self._report = report
        self._ready: set[str] = set()
        self._log = structlog.get_logger()

    async def follow(self) -> None:
        """Follow all stages until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, channel in self._channels.items():
                group.create_task(self._follow(name, channel))

    async def _follow(self, name: str, channel: grpc.aio.Channel) -> None:
        while True:
            await _ready(channel)
            self._ready.add(name)
            await self._tell(name)
            await _lost(channel)
            self._ready.discard(name)
            await self._tell(name)

    async def _tell(self, name: str) -> None:
        self._log.info("stage", stage=name, ready=name in self._ready)
        await self._report(len(self._ready) == len(self._channels))


async def _ready(channel: grpc.aio.Channel) -> None:
    """Wait until a server behind the channel is SERVING (the channel checks that by the health service)."""
    while (state := channel.get_state(try_to_connect=True)) is not READY:
        await channel.wait_for_state_change(state)


async def _lost(channel: grpc.aio.Channel) -> None:
    """Wait until no server behind the channel has been SERVING for PATIENCE_S."""
    while True:
        await channel.wait_for_state_change(READY)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await _ready(channel)
        except TimeoutError:
            return
