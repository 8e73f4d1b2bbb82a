"""Rolls new releases out by itself: a shadow, then a canary, then everything; the gate stands before each step."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from services.core.errors import BoneageError
from services.release.gate import Criteria, canary_reasons, check_sources, mae_reason, shadow_reasons
from services.release.pipeline import AUTOMATIC, ReleasePipeline
from services.release.ports import Measurements, Readings, Totals
from services.release.state import Status

Phase = Literal["shadow", "canary"]
NOTHING = Totals()
LEAST_ANSWERS: Final = 10
"""Of the current release in a phase, to hold another against."""


def in_order(release: str) -> list[tuple[int, str]]:
    """A key by which ids follow one another as people count: v10 after v9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", release)]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much a release must do in each phase, and for how long that may be waited for."""

    criteria: Criteria
    shadow_assessments: int
    canary_assessments: int
    canary_permille: int
    phase_timeout_s: float


@dataclass(frozen=True, slots=True)
class Underway:
    """A release in one phase: when that began, against which other, and what both had come to by then."""

    release: str
    against: str
    phase: Phase
    began_s: float
    candidate: Totals
    current: Totals


class Rollout:
    """Takes the newest release that nobody has seen yet; one at a time."""

    def __init__(
        self,
        pipeline: ReleasePipeline,
        measurements: Measurements,
        plan: Plan,
        *,
        readings: Readings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigurationError for a criterion that nothing could answer."""
        check_sources(plan.criteria, readings)
        self._pipeline, self._measurements, self._plan = pipeline, measurements, plan
        self._readings, self._clock = readings, clock
        self._underway: Underway | None = None
        self._log = structlog.get_logger()

    async def follow(self, *, interval_s: float) -> None:
        """Take steps until cancelled. What is in the store at the very first start is left to people."""
        while True:
            try:
                if not self._pipeline.state.known:
                    await self._pipeline.see([summary.id for summary in await self._pipeline.summaries()])
                await self.step()
            except BoneageError as error:
                self._log.warning("the rollout waits", reason=str(error))
            await asyncio.sleep(interval_s)

    async def step(self) -> None:
        """Begin with a new release, go on with the one underway, or let it go where a person took it over."""
        if self._underway is None:
            await self._begin()
        elif not self._is_ours(self._underway.release, self._underway.phase):
            self._underway = None
        elif self._underway.against != self._pipeline.state.routing.current:
            self._underway = await self._at(self._underway.release, self._underway.phase)
        else:
            await self._judge(self._underway)

    async def _begin(self) -> None:
        """Go on with a release that shadows or answers a share, after a restart; else take the newest new one."""
        routing, known = self._pipeline.state.routing, self._pipeline.state.known
        roles: tuple[tuple[str, Phase], ...] = ((routing.canary, "canary"), (routing.shadow, "shadow"))
        for release, phase in roles:
            if self._is_ours(release, phase):
                self._underway = await self._at(release, phase)
                return
        new = [s for s in await self._pipeline.summaries() if s.id not in known and s.status is Status.AVAILABLE]
        if new and not routing.canary and not routing.shadow:
            *others, newest = sorted((summary.id for summary in new), key=in_order)
            await self._pipeline.see(others)
            await self._enter(newest, "shadow" if self._plan.shadow_assessments else "canary")
            await self._pipeline.see([newest])  # only now: killed before, it is begun again

    def _is_ours(self, release: str, phase: Phase) -> bool:
        """Whether a release is in that phase, and nobody has touched it since it was brought there by itself."""
        if not release or self._pipeline.state.status(release).value != phase:
            return False
        events = self._pipeline.events(release)
        return bool(events) and events[-1].caller == AUTOMATIC

    async def _enter(self, release: str, phase: Phase) -> None:
        if phase == "shadow":
            await self._pipeline.shadow(release, caller=AUTOMATIC)
        else:
            await self._pipeline.canary(release, self._plan.canary_permille, caller=AUTOMATIC)
        self._underway = await self._at(release, phase)

    async def _at(self, release: str, phase: Phase) -> Underway:
        candidate, current = await self._totals(release)
        return Underway(release, self._pipeline.state.routing.current, phase, self._clock(), candidate, current)

    async def _totals(self, release: str) -> tuple[Totals, Totals]:
        totals = await self._measurements.totals()
        return totals.get(release, NOTHING), totals.get(self._pipeline.state.routing.current, NOTHING)

    async def _judge(self, underway: Underway) -> None:
        candidate, current = await self._totals(underway.release)
        candidate, lately = candidate.since(underway.candidate), current.since(underway.current)
        if lately.answered + lately.abstained >= LEAST_ANSWERS:  # else all that it did before has to do
            current = lately
        done, needed = self._progress(underway.phase, candidate)
        reasons = await self._reasons(underway, candidate, current)
        if done >= needed:
            await (self._stop(underway, reasons) if reasons else self._advance(underway))
        elif reasons and self._hopeless(underway.phase, candidate, needed):
            await self._stop(underway, reasons)
        elif self._clock() - underway.began_s > self._plan.phase_timeout_s:
            await self._stop(underway, [f"only {done} of {needed} assessments came within the time for the phase"])

    def _progress(self, phase: Phase, candidate: Totals) -> tuple[int, int]:
        if phase == "shadow":
            return candidate.shadowed, self._plan.shadow_assessments
        return candidate.answered + candidate.abstained + candidate.failed, self._plan.canary_assessments

    def _hopeless(self, phase: Phase, candidate: Totals, needed: int) -> bool:
        """Whether more has failed than may, however well the rest goes: nobody waits for the rest then."""
        failed = candidate.shadow_failed if phase == "shadow" else candidate.failed
        return failed > self._plan.criteria.failed_share * needed

    async def _reasons(self, underway: Underway, candidate: Totals, current: Totals) -> Sequence[str]:
        criteria = self._plan.criteria
        if underway.phase == "shadow":
            return shadow_reasons(criteria, candidate, current)
        reasons = list(canary_reasons(criteria, candidate, current))
        if self._readings is not None:
            reasons.append(mae_reason(criteria, await self._readings.mae_months(underway.release)))
        return [reason for reason in reasons if reason]

    async def _advance(self, underway: Underway) -> None:
        self._underway = None
        if underway.phase == "shadow":
            await self._enter(underway.release, "canary")
        else:
            await self._pipeline.promote(underway.release, caller=AUTOMATIC, detail="passed the gate")

    async def _stop(self, underway: Underway, reasons: Sequence[str]) -> None:
        self._underway = None
        await self._pipeline.refuse(underway.release, f"stopped as {underway.phase}: {'; '.join(reasons)}")
