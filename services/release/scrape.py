"""Counts by release from the assessments' own /metrics; what an instance had counted before counts for nothing."""

import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.client import HTTPException
from typing import Final

import structlog
from prometheus_client.parser import text_string_to_metric_families

from services.core.adapters.addresses import Addresses
from services.core.runtime.workers import Workers
from services.release.ports import Totals

TIMEOUT_S: Final = 3.0
DIRECTLY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Whatever proxy the environment names: it could not reach a pod."""
OK: Final = "ok"
FAILED: Final = "failed"

Sample = tuple[str, str, str]
"""Name, release and outcome; the outcome is empty where there is none."""


class Scraper:
    """Fulfils `ports.Measurements` from the HTTP ports at these addresses, each of one instance."""

    def __init__(self, instances: Addresses, workers: Workers) -> None:
        self._instances, self._workers = instances, workers
        self._last: dict[str, dict[Sample, float]] = {}
        self._counted: dict[Sample, float] = {}
        self._log = structlog.get_logger()

    async def totals(self) -> Mapping[str, Totals]:
        """What each release came to since the first call."""
        for address in await self._instances.look_up():
            try:
                self._count(address, await self._workers.run(read, address))
            except (OSError, HTTPException, ValueError) as error:
                self._log.warning("no metrics", instance=address, reason=type(error).__name__)
        return totals_of(self._counted)

    def _count(self, address: str, now: Mapping[Sample, float]) -> None:
        """Add what came since the last look at this instance; a counter that fell began anew."""
        if address in self._last:
            before = self._last[address]
            for sample, value in now.items():
                earlier = before.get(sample, 0.0)
                self._counted[sample] = self._counted.get(sample, 0.0) + (
                    value - earlier if value >= earlier else value
                )
        self._last[address] = dict(now)


def read(address: str) -> dict[Sample, float]:
    """The samples of one instance that are about releases.

    Raises OSError, HTTPException or ValueError where it does not answer, or not as an instance does.
    """
    with DIRECTLY.open(f"http://{address}/metrics", timeout=TIMEOUT_S) as answer:
        return dict(samples(answer.read().decode()))


def samples(text: str) -> Iterator[tuple[Sample, float]]:
    """Samples with a release in Prometheus' text format."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "release" in sample.labels and "le" not in sample.labels:
                yield (sample.name, sample.labels["release"], sample.labels.get("outcome", "")), sample.value


def totals_of(counted: Mapping[Sample, float]) -> dict[str, Totals]:
    """Samples put together by release."""
    totals: dict[str, Totals] = {}
    for (name, release, outcome), value in counted.items():
        before = totals.get(release, Totals())
        totals[release] = _with(before, name, outcome, value)
    return totals


def _with(totals: Totals, name: str, outcome: str, value: float) -> Totals:
    count = round(value)
    if name == "boneage_assessments_total":
        field = {OK: "answered", FAILED: "failed"}.get(outcome, "abstained")
        return replace(totals, **{field: getattr(totals, field) + count})
    if name == "boneage_shadow_assessments_total":
        field = {OK: "shadowed", FAILED: "shadow_failed"}.get(outcome, "shadow_abstained")
        changed = replace(totals, **{field: getattr(totals, field) + count})
        return changed if field == "shadowed" else replace(changed, shadowed=changed.shadowed + count)
    if name == "boneage_assessment_seconds_sum":
        return replace(totals, seconds=totals.seconds + value)
    if name == "boneage_shadow_difference_months_count":
        return replace(totals, compared=totals.compared + count)
    if name == "boneage_shadow_difference_months_sum":
        return replace(totals, difference_months=totals.difference_months + value)
    return totals
