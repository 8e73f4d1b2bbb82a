"""`boneage assess`: reads radiographs and says what became of each, in their order and as soon as it is known."""

import json
from collections.abc import Sequence
from pathlib import Path

from services.cli.artifacts import refuse_overwriting, write_artifacts
from services.cli.files import InputFile, collect, refuse_collisions
from services.cli.server import Server
from services.cli.session import Job, reading_all
from services.cli.terminal import Tally, line_of, progress
from services.cli.usage import UsageError, printable


def inputs_for(paths: Sequence[Path], artifacts: Path | None) -> list[InputFile]:
    """The files at `paths`; raises UsageError where artifacts would be written twice, over an input, or not at all."""
    files = collect(paths, leave_out=artifacts)
    if artifacts is not None:
        refuse_collisions(files)
        refuse_overwriting(files, artifacts)
        try:
            artifacts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{printable(artifacts)} cannot be made: {error.strerror}") from None
    return files


async def assess(jobs: Sequence[Job], server: Server, *, as_json: bool, artifacts: Path | None) -> int:
    """Print one line for each file and give the exit code: 1 if any failed."""
    tally = Tally()
    with progress(len(jobs), starting=not server.address) as advance:
        async with reading_all(jobs, server) as readings:
            async for reading in readings:
                print(json.dumps(reading.record()) if as_json else line_of(reading), flush=True)
                if artifacts is not None:
                    write_artifacts(reading, artifacts)
                tally.add(reading)
                advance()
    tally.say()
    return 1 if tally.failed else 0
