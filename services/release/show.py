"""Shows the routing and the runtimes in the metrics, so that dashboards and alerts know what a figure belongs to."""

from dataclasses import asdict

from services.core.runtime.telemetry import Telemetry
from services.release.pipeline import ReleasePipeline
from services.release.reconciler import Reconciler


async def show_routing(pipeline: ReleasePipeline, telemetry: Telemetry) -> None:
    """Follow the routing until it ends."""
    async for routing in pipeline.watch():
        telemetry.releases.clear()
        telemetry.baseline_mae_months.clear()
        for role, release in asdict(routing).items():
            if role != "canary_permille" and release:
                telemetry.releases.labels(release, role).set(1)
        telemetry.canary_permille.set(routing.canary_permille)
        for release_id in routing.releases:
            release = (await pipeline.get(release_id)).release
            if release is not None and release.baseline_mae_months is not None:
                telemetry.baseline_mae_months.labels(release_id).set(release.baseline_mae_months)


def show_backends(reconciler: Reconciler, pipeline: ReleasePipeline, telemetry: Telemetry) -> None:
    """Count runtimes whenever the metrics are read."""

    def lagging() -> int:
        return len(reconciler.lagging(pipeline.state.routing.releases))

    telemetry.backends.labels("lagging").set_function(lagging)
    telemetry.backends.labels("ready").set_function(lambda: len(reconciler.backends) - lagging())
