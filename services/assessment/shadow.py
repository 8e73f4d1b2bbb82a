"""Reads along under another release, without answering: what is learnt goes into the metrics alone."""

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from services.assessment.pipeline import Ask, Assessment, AssessmentPipeline, Radiograph
from services.assessment.stopwatch import Stopwatch
from services.core.domain.reading import Age
from services.core.errors import BoneageError, DeadlineExceededError, OverloadedError
from services.core.runtime.deadlines import Deadline
from services.core.runtime.telemetry import Telemetry

OK: Final = "ok"
FAILED: Final = "failed"


class Shadow:
    """At most `in_flight` readings at once; those beyond are dropped, so that no answer waits for a shadow."""

    def __init__(self, pipeline: AssessmentPipeline, telemetry: Telemetry, *, in_flight: int) -> None:
        self._pipeline, self._telemetry, self._in_flight = pipeline, telemetry, in_flight
        self._running: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def consider(self, radiograph: Radiograph, ask: Ask, answered: Assessment, *, release: str) -> None:
        """Read a radiograph that was answered under another release too, where there is room for it."""
        if not release or release == answered.release or len(self._running) >= self._in_flight:
            return
        own = replace(ask, release=release, ungated=False)
        task = asyncio.create_task(self._read(replace(radiograph, picture=None), own, answered))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Drop what is underway."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _read(self, radiograph: Radiograph, ask: Ask, answered: Assessment) -> None:
        try:
            own = await self._pipeline.assess(radiograph, ask, deadline=Deadline.after(None), watch=Stopwatch())
        except (OverloadedError, DeadlineExceededError):
            return  # there was no room for it, which says nothing of the release
        except BoneageError as error:
            self._telemetry.shadow_assessments.labels(FAILED, ask.release).inc()
            self._log.warning("shadow failed", release=ask.release, error=type(error).__name__, reason=error.reason)
            return
        outcome = own.abstention.reason.name.lower() if own.abstention else OK
        self._telemetry.shadow_assessments.labels(outcome, ask.release).inc()
        ages = [a.answer.value.months for a in (own, answered) if a.answer and isinstance(a.answer.value, Age)]
        if len(ages) == 2:  # noqa: PLR2004 -- ours and the answered one
            self._telemetry.shadow_difference_months.labels(ask.release).observe(abs(ages[0] - ages[1]))
