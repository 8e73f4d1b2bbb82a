"""The metrics of one process, under the names that dashboards for go-grpc-prometheus know; no patient in a label."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

SECONDS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
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
            "Assessments that were answered, by outcome (ok or the reason of the abstention) and release.",
            ("outcome", "release"),
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
