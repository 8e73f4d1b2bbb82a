"""The commands of `boneage jobs`: their arguments, and what each of them runs."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli import jobs
from services.cli.jobs_follow import Follower

app = typer.Typer(no_args_is_help=True, help="Start training jobs on a cluster, follow and end them.")

NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Of the training chart; else that of your access.")
]
ReleaseOption = Annotated[
    str, typer.Option("--release", metavar="NAME", help="Of the training chart, where several are installed.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
JobArgument = Annotated[str, typer.Argument(metavar="NAME", help="The Job, or a job for its newest.")]


@app.command()
def submit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The job: hands, transfer, publish, ...")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the configuration: `a.b=1`.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration in place of the chart's.")] = None,
    namespace: NamespaceOption = "",
    release: ReleaseOption = "",
    follow: Annotated[bool, typer.Option(help="Print its log until it ends.")] = True,
) -> None:
    """Start a job. Ends as it does: 0 done, 3 waiting for labels, 64, 74, 143 interrupted, else 1."""
    cluster = jobs.connected(namespace)
    made = jobs.submit(cluster, name, release=release, file=config, changes=changes or [])
    print(made, flush=True)
    raise typer.Exit(Follower(cluster, made).follow() if follow else 0)


@app.command("list")
def list_(namespace: NamespaceOption = "", release: ReleaseOption = "", as_json: JsonOption = False) -> None:
    """All Jobs that are kept, newest first, and what became of each."""
    raise typer.Exit(jobs.show(jobs.connected(namespace), release, as_json=as_json))


@app.command()
def logs(
    name: JobArgument,
    namespace: NamespaceOption = "",
    follow: Annotated[bool, typer.Option(help="Go on until it ends, and end as it does.")] = False,
) -> None:
    """Print what the pods of a Job said."""
    cluster = jobs.connected(namespace)
    follower = Follower(cluster, jobs.named(cluster, name))
    raise typer.Exit(follower.follow() if follow else follower.print_logs())


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The Job.")], namespace: NamespaceOption = ""
) -> None:
    """End a Job, and wait until it has saved its state."""
    raise typer.Exit(jobs.cancel(jobs.connected(namespace), name))
