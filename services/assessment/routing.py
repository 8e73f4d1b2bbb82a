"""Follows the routing of the release service and chooses the release of each study; the last one is kept."""

import asyncio
import json
import os
import random
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter

from services.client import ReleaseClient
from services.core.domain.routing import Routing
from services.core.errors import BoneageError

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
KEPT: Final = TypeAdapter(Routing)


class FollowedRouting:
    """The routing as last heard, by `client`, or as kept in `file`; without either every choice is left to the stages.

    A release service that is down changes nothing: what it said last holds, also after a restart.
    """

    def __init__(self, client: ReleaseClient | None, file: Path | None) -> None:
        self._client, self._file = client, file
        self._log = structlog.get_logger()
        self.routing = self._kept()

    def choose(self, study: bytes) -> str:
        """The release that answers a study; empty for the current one of the repository."""
        return self.routing.release_for(study) if self.routing else ""

    async def follow(self) -> None:
        """Follow until cancelled."""
        if self._client is None:
            return
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with aclosing(self._client.watch()) as routings:
                    async for routing in routings:
                        wait_s = FIRST_WAIT_S
                        self._take(routing)
            except (BoneageError, ValueError) as error:
                if wait_s == FIRST_WAIT_S:  # told once, not at every try
                    self._log.info("routing not heard", reason=str(error))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter, no secret
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _take(self, routing: Routing) -> None:
        if routing == self.routing:
            return
        self.routing = routing
        self._log.info("routing", **asdict(routing))
        if self._file is not None:
            try:
                _write(self._file, json.dumps(asdict(routing)))
            except OSError as error:
                self._log.error("routing not kept", reason=error.strerror)

    def _kept(self) -> Routing | None:
        """What was kept; a file that is damaged is as none, since the service will tell again."""
        if self._file is None or not self._file.exists():
            return None
        try:
            return KEPT.validate_json(self._file.read_bytes(), strict=True)
        except (OSError, ValueError) as error:
            self._log.warning("kept routing cannot be read", reason=type(error).__name__)
            return None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
