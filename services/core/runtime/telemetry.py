"""The metrics of one process, under the names that dashboards for go-grpc-prometheus know; no patient in a label."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

SECONDS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MONTHS_BUCKETS: Final = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 24.0, 36.0)
METHOD_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


class Telemetry:
    """What a process counts and times."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # Prometheus does not read them
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.calls_started = Counter("grpc_server_started", "Calls that began.", METHOD_LABELS, registry=self.registry)
        self.calls_handled = Counter(
            "grpc_server_handled", "Calls that ended, by status.", (*METHOD_LABELS, "grpc_code"), registry=self.registry
        )
        self.handling_seconds = Histogram(
            "grpc_server_handling_seconds",
            "From a call's arrival to its end.",
            METHOD_LABELS,
            registry=self.registry,
            buckets=SECONDS_BUCKETS,
        )
        self.stage_seconds = Histogram(
            "boneage_stage_seconds",
            "Time of one stage of an assessment, waiting included.",
            ("stage",),
            registry=self.registry,
            buckets=SECONDS_BUCKETS,
        )
        self.assessments = Counter(
            "boneage_assessments",
            "Assessments by outcome (ok, the reason of the abstention, or failed through no fault of the caller).",
            ("outcome", "release"),
            registry=self.registry,
        )
        self.assessment_seconds = Histogram(
            "boneage_assessment_seconds",
            "Time of an answered assessment, waiting included.",
            ("release",),
            registry=self.registry,
            buckets=SECONDS_BUCKETS,
        )
        self.shadow_assessments = Counter(
            "boneage_shadow_assessments",
            "Readings of a release that reads along without answering, by outcome.",
            ("outcome", "release"),
            registry=self.registry,
        )
        self.shadow_difference_months = Histogram(
            "boneage_shadow_difference_months",
            "Difference of a shadow's age from the one that was answered, where both are numbers.",
            ("release",),
            registry=self.registry,
            buckets=MONTHS_BUCKETS,
        )
        self.releases = Gauge(
            "boneage_release_role",
            "1 for each release that the routing names.",
            ("release", "role"),
            registry=self.registry,
        )
        self.canary_permille = Gauge(
            "boneage_canary_permille", "Thousandths of the studies that the canary answers.", registry=self.registry
        )
        self.backends = Gauge(
            "boneage_release_backends",
            "Runtimes that have all that is needed (ready), and that lack something or do not answer (lagging).",
            ("state",),
            registry=self.registry,
        )
        self.baseline_mae_months = Gauge(
            "boneage_release_baseline_mae_months",
            "Error on the test part that a release's manifest states.",
            ("release",),
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
