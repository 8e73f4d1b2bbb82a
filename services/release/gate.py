"""The gate: whether a release that shadowed, or answered a share, may go on; from counts, to reasons against it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.core.errors import ConfigurationError
from services.release.ports import Readings, Totals


@dataclass(frozen=True, slots=True)
class Criteria:
    """The greatest that is let through; see the settings of the same names."""

    failed_share: float
    latency_ratio: float
    difference_months: float
    abstained_share: float
    mae_months: float | None = None


def check_sources(criteria: Criteria, readings: Readings | None) -> None:
    """Refuse a criterion that nothing could answer. Raises ConfigurationError."""
    if criteria.mae_months is not None and readings is None:
        raise ConfigurationError(
            "no source of readings is configured, so that no error against readings can be known",
            field="BONEAGE_GATE_MAE_MONTHS",
        )


def shadow_reasons(criteria: Criteria, candidate: Totals, current: Totals) -> Sequence[str]:
    """What speaks against a release that read along; nothing where it may go on."""
    return _reasons(SHADOW, criteria, candidate, current)


def canary_reasons(criteria: Criteria, candidate: Totals, current: Totals) -> Sequence[str]:
    """What speaks against a release that answered a share; nothing where it may answer everything."""
    return _reasons(CANARY, criteria, candidate, current)


def mae_reason(criteria: Criteria, mae_months: float | None) -> str:
    """What speaks against a release by its error against readings; too few of them speak against it too."""
    if criteria.mae_months is None:
        return ""
    if mae_months is None:
        return "there are too few readings to know its error by"
    if mae_months <= criteria.mae_months:
        return ""
    return f"its error against readings is {mae_months:.1f} months, more than {criteria.mae_months:g}"


Check = Callable[[Criteria, Totals, Totals], str]


def _reasons(checks: Sequence[Check], criteria: Criteria, candidate: Totals, current: Totals) -> Sequence[str]:
    return [reason for check in checks if (reason := check(criteria, candidate, current))]


def _shadow_failures(criteria: Criteria, candidate: Totals, _: Totals) -> str:
    return _share(candidate.shadow_failed, candidate.shadowed, criteria.failed_share, "of its readings failed")


def _agreement(criteria: Criteria, candidate: Totals, _: Totals) -> str:
    if not candidate.compared:
        return "none of its ages could be compared"
    difference = candidate.difference_months / candidate.compared
    if difference <= criteria.difference_months:
        return ""
    return (
        f"its ages differ by {difference:.1f} months on average from those answered, "
        f"more than {criteria.difference_months:g}"
    )


def _shadow_abstentions(criteria: Criteria, candidate: Totals, current: Totals) -> str:
    return _excess(candidate.shadow_abstained, candidate.shadowed, current, criteria.abstained_share)


def _failures(criteria: Criteria, candidate: Totals, current: Totals) -> str:
    own, usual = _failed_share(candidate), _failed_share(current)
    if own <= usual + criteria.failed_share:
        return ""
    return f"{own:.1%} of its assessments failed, of the current release's {usual:.1%}"


def _abstentions(criteria: Criteria, candidate: Totals, current: Totals) -> str:
    return _excess(candidate.abstained, candidate.answered + candidate.abstained, current, criteria.abstained_share)


def _latency(criteria: Criteria, candidate: Totals, current: Totals) -> str:
    own, others = _mean_seconds(candidate), _mean_seconds(current)
    if own is None or others is None or own <= criteria.latency_ratio * others:
        return ""
    return f"it takes {own / others:.2f} times as long as the current release, more than {criteria.latency_ratio:g}"


SHADOW: Final[tuple[Check, ...]] = (_shadow_failures, _agreement, _shadow_abstentions)
CANARY: Final[tuple[Check, ...]] = (_failures, _abstentions, _latency)


def _share(part: int, whole: int, greatest: float, what: str) -> str:
    if not whole or part / whole <= greatest:
        return ""
    return f"{part / whole:.1%} {what}, more than {greatest:.1%}"


def _excess(abstained: int, whole: int, current: Totals, greatest: float) -> str:
    answers = current.answered + current.abstained
    usual = current.abstained / answers if answers else 0.0
    if not whole or abstained / whole <= usual + greatest:
        return ""
    return f"it abstains from {abstained / whole:.1%}, the current release from {usual:.1%}"


def _failed_share(totals: Totals) -> float:
    whole = totals.answered + totals.abstained + totals.failed
    return totals.failed / whole if whole else 0.0


def _mean_seconds(totals: Totals) -> float | None:
    answers = totals.answered + totals.abstained
    return totals.seconds / answers if answers else None
