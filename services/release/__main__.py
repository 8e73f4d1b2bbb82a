"""Starts the release service: `python -m services.release`."""

import asyncio
from collections.abc import Callable

import structlog

from boneage.v1.release_pb2_grpc import add_ReleaseServiceServicer_to_server
from services.client import stage_tls
from services.core.adapters.addresses import Addresses
from services.core.adapters.signing import Trust
from services.core.adapters.store import Store
from services.core.errors import ConfigurationError, ReleaseError, UnknownReleaseError
from services.core.runtime.authorisation import Callers
from services.core.runtime.model_host import read_key
from services.core.runtime.process import Process, run_process
from services.core.runtime.server import Registration
from services.release.catalogue import StoreCatalogue
from services.release.gate import Criteria, check_sources
from services.release.leadership import Leadership, leadership_of
from services.release.pipeline import ReleasePipeline
from services.release.ports import ModelHost, Version
from services.release.reconciler import Reconciler
from services.release.rollout import Plan, Rollout
from services.release.scrape import Scraper
from services.release.servicer import SERVICE, ReleaseServicer
from services.release.services_host import ServicesHost
from services.release.settings import Settings, trusted_keys
from services.release.show import show_backends, show_routing

BEGIN_WAIT_S = 2.0


async def serve(process: Process, settings: Settings) -> None:
    """Wire the parts and serve until stopped; of several only the one that leads serves."""
    criteria = criteria_of(settings)
    check_sources(criteria, None)
    callers = Callers(settings.callers_file)
    leadership = leadership_of(settings)
    catalogue = StoreCatalogue(Store(settings.store), Trust(trusted_keys(settings)), leadership.check)
    hosts = hosts_of(settings)
    pipeline = ReleasePipeline(catalogue, process.workers, ready_timeout_s=settings.ready_timeout_s)
    rollout = rollout_of(process, settings, pipeline, criteria)
    registration = Registration(SERVICE, ReleaseServicer(pipeline, callers), add_ReleaseServiceServicer_to_server)
    async with process.serving(registration):
        working = asyncio.create_task(_work(process, settings, leadership, pipeline, hosts, rollout))
        stopped = asyncio.create_task(process.stopped())
        try:
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working  # it only ends by an error, which ends the process
        finally:
            await pipeline.close()  # nothing is decided any more before another may be the active one
            for task in (working, stopped):
                task.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)
            for host in hosts:
                await host.close()


async def _work(
    process: Process,
    settings: Settings,
    leadership: Leadership,
    pipeline: ReleasePipeline,
    hosts: tuple[ModelHost, ...],
    rollout: Rollout | None,
) -> None:
    """Become the active one, take up the state, and bring the runtimes to it until cancelled."""

    def reconciler_of(needed: Callable[[], frozenset[Version]]) -> Reconciler:
        return Reconciler(hosts, needed, unload_delay_s=settings.unload_delay_s)

    async with leadership.leading():
        reconciler = await _begun(pipeline, reconciler_of)
        show_backends(reconciler, pipeline, process.telemetry)
        async with asyncio.TaskGroup() as group:
            group.create_task(reconciler.follow(interval_s=settings.reconcile_interval_s))
            group.create_task(show_routing(pipeline, process.telemetry))
            await process.set_ready(ready=True)
            if rollout is not None:
                group.create_task(rollout.follow(interval_s=settings.sync_interval_s))


async def _begun(
    pipeline: ReleasePipeline, reconciler_of: Callable[[Callable[[], frozenset[Version]]], Reconciler]
) -> Reconciler:
    """The reconciler, once the store can be read: an empty or unreachable one is waited for."""
    while True:
        try:
            return await pipeline.begin(reconciler_of)
        except (ReleaseError, UnknownReleaseError) as error:
            structlog.get_logger().warning("the store has no release to serve", reason=str(error))
            await asyncio.sleep(BEGIN_WAIT_S)


def criteria_of(settings: Settings) -> Criteria:
    """What the gate lets through."""
    return Criteria(
        failed_share=settings.gate_failed_share,
        latency_ratio=settings.gate_latency_ratio,
        difference_months=settings.gate_difference_months,
        abstained_share=settings.gate_abstained_share,
        mae_months=settings.gate_mae_months,
    )


def plan_of(settings: Settings, criteria: Criteria) -> Plan:
    """How new releases are rolled out."""
    return Plan(
        criteria=criteria,
        shadow_assessments=settings.shadow_assessments,
        canary_assessments=settings.canary_assessments,
        canary_permille=settings.canary_permille,
        phase_timeout_s=settings.phase_timeout_s,
    )


def rollout_of(process: Process, settings: Settings, pipeline: ReleasePipeline, criteria: Criteria) -> Rollout | None:
    """What rolls new releases out by itself, where that is wanted. Raises ConfigurationError."""
    if not settings.automatic:
        return None
    if not settings.assessment_metrics:
        raise ConfigurationError("a gate has to see something", field="BONEAGE_ASSESSMENT_METRICS")
    instances = Addresses(settings.assessment_metrics, field="BONEAGE_ASSESSMENT_METRICS")
    scraper = Scraper(instances, process.workers)
    return Rollout(pipeline, scraper, plan_of(settings, criteria))


def hosts_of(settings: Settings) -> tuple[ModelHost, ...]:
    """The runtimes, and the services that have to know a release before it is routed to. Raises ConfigurationError."""
    if not settings.model_hosts:
        raise ConfigurationError("name the model services: they must know a release first", field="BONEAGE_MODEL_HOSTS")
    key = read_key(settings.host_key_file) if settings.host_key_file else ""
    services = ServicesHost(Addresses(settings.model_hosts, field="BONEAGE_MODEL_HOSTS"), key, tls=stage_tls(settings))
    if settings.inference != "triton":
        return (services,)
    from services.core.adapters.triton_host import TritonHost  # noqa: PLC0415 -- only where Triton is chosen

    return (TritonHost(settings.triton_url, key=key, flavour=settings.triton_flavour), services)


if __name__ == "__main__":
    run_process(SERVICE, Settings, serve)
