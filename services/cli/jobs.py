"""What `boneage jobs` does: starts jobs of the training chart, lists what became of them, and ends them."""

import importlib
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from rich.table import Table

from services.cli.jobs_errors import ClusterError, NotThereError
from services.cli.jobs_objects import (
    CONFIG_KEY,
    JOB_NAME,
    QUEUE,
    Run,
    chosen,
    config_map,
    config_of,
    job_from,
)
from services.cli.terminal import table_console
from services.cli.usage import UsageError, printable

if TYPE_CHECKING:
    from services.cli.jobs_cluster import Cluster

LOOK_S: Final = 1.0
STOPPING_S: Final = 60.0
"""What the end of a Job may take beside its pods' grace."""


def connected(namespace: str) -> "Cluster":
    """The cluster. Raises UsageError where the client is not installed, or no cluster is known."""
    try:
        module = importlib.import_module("services.cli.jobs_cluster")
    except ImportError as error:
        raise UsageError(f"{error}; this needs the Kubernetes client: pip install 'boneage[cluster]'") from None
    return cast("Cluster", module.Cluster(namespace))


def submit(cluster: "Cluster", job: str, *, release: str, file: Path | None, changes: Sequence[str]) -> str:
    """Start a job with its configuration changed; the name of the Job. Raises UsageError, ClusterError."""
    from services.cli.jobs_config import configured  # noqa: PLC0415 -- needs YAML, which comes with the extra `cluster`

    cronjob = chosen(cluster.cronjobs(), job, release)
    config = configured(cluster.config(config_of(cronjob), CONFIG_KEY), file, changes)
    # A CronJob's name has at most 52 characters, a Job's 63, and its pods' ends are added to it.
    made = cluster.create_job(job_from(cronjob, f"{cronjob['metadata']['name']}-{secrets.token_hex(3)}"))
    name = str(made["metadata"]["name"])
    try:
        cluster.create_config(config_map(made, config))
        if QUEUE not in made["metadata"]["labels"]:
            cluster.resume(name)
    except BaseException:  # Ctrl-C too: no Job is left that would wait for ever
        with suppress(ClusterError):
            cluster.delete_job(name)
        raise
    return name


def run_of(cluster: "Cluster", name: str) -> Run:
    """A Job with its pods. Raises ClusterError."""
    return Run.of(cluster.job(name), cluster.pods(f"{JOB_NAME}={name}"))


def runs(cluster: "Cluster", release: str = "") -> list[Run]:
    """All Jobs, newest first. Raises ClusterError."""
    pods = cluster.pods(JOB_NAME)
    found = [
        Run.of(job, [pod for pod in pods if pod["metadata"]["labels"][JOB_NAME] == job["metadata"]["name"]])
        for job in cluster.jobs(release)
    ]
    return sorted(found, key=lambda run: (run.started, run.name), reverse=True)


def named(cluster: "Cluster", name: str) -> str:
    """The Job of that name, or the newest of the job of that name. Raises UsageError, ClusterError."""
    with suppress(NotThereError):
        return Run(cluster.job(name)).name
    found = [run for run in runs(cluster) if run.kind == name]
    if not found:
        raise UsageError(f"there is no Job {printable(name)} here, and none of a job of that name")
    return found[0].name


def show(cluster: "Cluster", release: str, *, as_json: bool) -> int:
    """All Jobs, one line each."""
    rows = [_row(run) for run in runs(cluster, release)]
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    table = Table("name", "job", "started", "state", "restarts", "message")
    for row in rows:
        table.add_row(*(printable(value) for value in row.values()))
    table_console().print(table)
    return 0


def _row(run: Run) -> dict[str, str | int]:
    return {
        "name": run.name, "job": run.kind, "started": run.started, "state": run.state, "restarts": run.restarts,
        "message": run.message if run.ended else "",
    }  # fmt: skip


def cancel(cluster: "Cluster", name: str) -> int:
    """Delete a Job and wait until its pods have saved their state and ended. Raises ClusterError."""
    run = run_of(cluster, name)
    if run.ended:
        raise ClusterError(f"{name} has ended already: {run.outcome}")
    cluster.delete_job(name)
    grace_s = float(run.job["spec"]["template"]["spec"].get("terminationGracePeriodSeconds") or 30)
    for _ in _looks(grace_s + STOPPING_S):
        try:
            cluster.job(name)
        except NotThereError:
            print(f"{name} is cancelled; what it had saved is kept, and the next run with the same `out` goes on there")
            return 0
    raise ClusterError(f"{name} has been told to end and has not; `kubectl describe job {name}` says more")


def _looks(seconds: float) -> Iterator[None]:
    """One look after another, until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(LOOK_S)
