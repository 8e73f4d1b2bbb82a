"""Runs a command's coroutine to its exit code, with SIGINT and SIGTERM as an orderly end."""

import asyncio
import signal
from collections.abc import Coroutine

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(command: Coroutine[object, object, int], *, stopped_exit_code: int | None = None) -> int:
    """The exit code of `command`; ended by a signal it is 128 + the signal's number, or `stopped_exit_code`.

    The first signal cancels the command, so that what it started is stopped; later ones do not hurry it, since
    stopping is bounded.
    """
    return asyncio.run(_until_signal(command, stopped_exit_code))


async def _until_signal(command: Coroutine[object, object, int], stopped_exit_code: int | None) -> int:
    task = asyncio.ensure_future(command)
    received: list[int] = []

    def stop(number: int) -> None:
        if not received:
            task.cancel()
        received.append(number)

    loop = asyncio.get_running_loop()
    for number in STOPPING_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0] if stopped_exit_code is None else stopped_exit_code
