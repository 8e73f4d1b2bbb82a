"""The commands of `boneage release`: their arguments, and what each of them runs."""

from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli import release as releasing
from services.cli.process import run
from services.cli.release import ReleaseServer
from services.cli.server import CaOption, CertificateOption, KeyOption, tls_of
from services.cli.usage import UsageError

DEFAULT_SERVER: Final = "localhost:50052"

app = typer.Typer(no_args_is_help=True, help="Show releases and move them, through the release service.")

ServerOption = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", envvar="BONEAGE_RELEASE_ADDRESS", help="The release service.")
]
TokenOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File with your token; needed for whatever changes something.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The release.")]


@app.callback()
def server(
    context: typer.Context,
    address: ServerOption = DEFAULT_SERVER,
    token_file: TokenOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
) -> None:
    """Show releases and move them, through the release service."""
    context.obj = ReleaseServer(address, tls_of(ca, certificate, key), token_file)


@app.command("list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """All releases, and what became of each."""
    raise typer.Exit(run(releasing.show_list(context.obj, as_json=as_json)))


@app.command()
def show(
    context: typer.Context,
    release: Annotated[str, typer.Argument(metavar="[ID]", help="The release; the current one without.")] = "",
    as_json: JsonOption = False,
) -> None:
    """One release: its models, its status and why, and who did what with it."""
    raise typer.Exit(run(releasing.show_one(context.obj, release, as_json=as_json)))


@app.command()
def verify(context: typer.Context, release: IdArgument) -> None:
    """Check the signature and every file of a release. Exits with 1 and the reason where something is wrong."""
    raise typer.Exit(run(releasing.verify(context.obj, release)))


@app.command()
def promote(context: typer.Context, release: IdArgument) -> None:
    """Let a release answer everything, once it is verified and loaded everywhere."""
    raise typer.Exit(run(releasing.promote(context.obj, release)))


@app.command()
def canary(
    context: typer.Context,
    release: IdArgument = "",
    percent: Annotated[float, typer.Option(min=0.1, max=100, help="Share of the studies.")] = 5.0,
    end: Annotated[bool, typer.Option("--end", help="End the canary.")] = False,
) -> None:
    """Let a release answer a share of the studies."""
    if bool(release) == end:
        raise UsageError("either a release, or --end")
    raise typer.Exit(run(releasing.canary(context.obj, release, 0 if end else round(percent * 10))))


@app.command()
def shadow(
    context: typer.Context,
    release: IdArgument = "",
    end: Annotated[bool, typer.Option("--end", help="End the shadow.")] = False,
) -> None:
    """Let a release read along without answering."""
    if bool(release) == end:
        raise UsageError("either a release, or --end")
    raise typer.Exit(run(releasing.shadow(context.obj, release)))


@app.command()
def rollback(context: typer.Context, reason: Annotated[str, typer.Option(help="Why, for the log.")] = "") -> None:
    """Go back to the release before the current one; it is loaded, so that it answers at once."""
    raise typer.Exit(run(releasing.rollback(context.obj, reason)))


@app.command()
def gc(
    context: typer.Context,
    keep: Annotated[int, typer.Option(min=0, help="Newest releases to keep besides those that are routed to.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> None:
    """Delete old releases and the versions that none pins any more."""
    raise typer.Exit(run(releasing.collect(context.obj, keep=keep, dry_run=dry_run)))
