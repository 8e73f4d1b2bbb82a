"""Counting by release from what instances expose: restarts, late comers, and what is none of a release's business."""

import pytest

from services.core.adapters.addresses import Addresses
from services.core.runtime.telemetry import Telemetry
from services.core.runtime.workers import Workers
from services.release import scrape
from services.release.ports import Totals


@pytest.fixture
def workers():
    """One thread."""
    made = Workers(1)
    yield made
    made.close()


def exposed(*, ok=0, failed=0, no_hand=0, seconds=0.0, differences=()):
    """Samples as a process with these counts really exposes them."""
    telemetry = Telemetry()
    telemetry.assessments.labels("ok", "r1").inc(ok)
    telemetry.assessments.labels("failed", "r1").inc(failed)
    telemetry.assessments.labels("no_hand", "r1").inc(no_hand)
    telemetry.assessment_seconds.labels("r1").observe(seconds)
    for difference in differences:
        telemetry.shadow_assessments.labels("ok", "r2").inc()
        telemetry.shadow_difference_months.labels("r2").observe(difference)
    telemetry.stage_seconds.labels("decode").observe(1.0)
    return dict(scrape.samples(telemetry.exposition().decode()))


def test_totals_are_put_together_by_release():
    """Answers, abstentions, failures and seconds of one; shadow readings of another."""
    totals = scrape.totals_of(exposed(ok=7, failed=2, no_hand=1, seconds=3.5, differences=[2.0, 4.0]))
    assert totals["r1"] == Totals(answered=7, failed=2, abstained=1, seconds=3.5)
    assert totals["r2"] == Totals(shadowed=2, compared=2, difference_months=6.0)


def counted(workers, *rounds):
    """Totals after each round of samples by instance."""
    scraper, urls = scrape.Scraper(Addresses("127.0.0.1:9", field="test"), workers), []
    for round_ in rounds:
        for url, found in round_.items():
            scraper._count(url, found)
        urls.append(scrape.totals_of(scraper._counted).get("r1", Totals()))
    return urls


def test_what_was_there_before_does_not_count(workers):
    """Only what comes after the first look is this gate's business."""
    first, second = counted(workers, {"a": exposed(ok=100)}, {"a": exposed(ok=103)})
    assert (first.answered, second.answered) == (0, 3)


def test_an_instance_that_restarted_counts_from_nothing(workers):
    """Its counters fell, so that all they show is new."""
    _, second, third = counted(workers, {"a": exposed(ok=100)}, {"a": exposed(ok=2)}, {"a": exposed(ok=5)})
    assert (second.answered, third.answered) == (2, 5)


def test_an_instance_that_was_missed_at_first_brings_no_past(workers):
    """What it did before anybody looked is no part of the phase; what it does from then on is."""
    _, second, third = counted(
        workers,
        {"a": exposed(ok=100)},
        {"a": exposed(ok=101), "b": exposed(ok=400)},
        {"a": exposed(ok=101), "b": exposed(ok=404)},
    )
    assert (second.answered, third.answered) == (1, 5)


async def test_an_instance_that_is_away_is_passed_over(workers):
    """One dead address does not keep the others from being counted."""
    scraper = scrape.Scraper(Addresses("127.0.0.1:9", field="test"), workers)
    assert await scraper.totals() == {}
