"""The commands of `boneage`: their arguments, and what each of them runs."""

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from services.cli import assess as assessing
from services.cli import demo as showing
from services.cli import doctor as looking
from services.cli import evaluate as measuring
from services.cli import figures
from services.cli import serve as serving
from services.cli.doctor_cluster import Asked, doctor_cluster
from services.cli.files import collect
from services.cli.jobs_commands import app as jobs_app
from services.cli.jobs_errors import ClusterError
from services.cli.process import run
from services.cli.reading import Ask
from services.cli.release_commands import app as release_app
from services.cli.server import CaOption, CertificateOption, KeyOption, Server, ServerOption, tls_of
from services.cli.session import Job
from services.cli.supervisor import ServiceName, ServiceStartError
from services.cli.tables import RSNA, Columns, lookup, read_classes, read_labels, read_part, read_sizes
from services.cli.terminal import say, table_console
from services.cli.usage import UsageError
from services.core.errors import (
    BoneageError,
    InvalidRequestError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownReleaseError,
)

DEFAULT_PORT: Final = 50051
WRONG_USAGE: Final = 2
NOT_THE_SYSTEM: Final = (
    ClusterError,
    InvalidRequestError,
    UnknownReleaseError,
    UnauthenticatedError,
    PermissionDeniedError,
)
"""What was asked is to blame: there is nothing for the doctor to find."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reads the bone age of a child from a hand radiograph. Not a medical device.",
)

app.add_typer(release_app, name="release")
app.add_typer(jobs_app, name="jobs")

JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
SizesOption = Annotated[
    Path | None,
    typer.Option(metavar="CSV", help="Columns id, height, width: the size at acquisition of images squashed since."),
]


@app.command()
def assess(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="DICOM, PNG or JPEG files, or folders of them.")
    ],
    sex: Annotated[Literal["male", "female", "unknown"] | None, typer.Option(help="Wins over the header.")] = None,
    sizes: SizesOption = None,
    server: ServerOption = "",
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    artifacts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the mask, the enhanced hand, the map and the record of each."),
    ] = None,
) -> None:
    """Read radiographs; one line each, in their order. Exits with 1 if any failed."""
    files = assessing.inputs_for(paths, artifacts)
    table = read_sizes(sizes) if sizes else None
    ask = Ask(sex=sex, artifacts=artifacts is not None)
    jobs = [Job(file, ask, lookup(table or {}, file)) for file in files]
    measuring.warn_of_sizes(jobs, table)
    raise typer.Exit(
        run(assessing.assess(jobs, Server(server, tls_of(ca, certificate, key)), as_json=as_json, artifacts=artifacts))
    )


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 -- each is an option
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of radiographs named by their id.")],
    labels: Annotated[Path, typer.Option(metavar="CSV", help="Ages in months and sexes, or classes, by id.")],
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of classes, for a release that tells classes apart.")
    ] = "",
    id_column: Annotated[str, typer.Option(metavar="NAME", help="Column of the files' names.")] = RSNA.id,
    age_column: Annotated[str, typer.Option(metavar="NAME", help="Column of ages in months.")] = RSNA.age,
    sex_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of sexes: male or female, M or F, True (male); '' for none.")
    ] = RSNA.sex or "",
    sizes: SizesOption = None,
    split: Annotated[Path | None, typer.Option(metavar="FILE", help="Columns id, part.")] = None,
    part: Annotated[str, typer.Option(metavar="NAME", help="Part of the split to measure on.")] = "",
    sex: Annotated[Literal["unknown"] | None, typer.Option(help="Read without the sex.")] = None,
    server: ServerOption = "",
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the whole chain on a labelled folder. Exits with 1 if nothing was answered."""
    if bool(split) != bool(part):
        raise UsageError("--split and --part go together")
    where = Server(server, tls_of(ca, certificate, key))
    files, ids = collect([images]), read_part(split, part) if split else None
    table = read_sizes(sizes) if sizes else None
    if label_column and sex:
        raise UsageError("--sex goes with ages, not with --label-column")
    if label_column:
        classes = figures.choose(files, read_classes(labels, label_column, id_column=id_column), ids)
        raise typer.Exit(run(measuring.measure_classes(classes, table, where, as_json=as_json)))
    columns = Columns(id_column, age_column, sex_column or None)
    chosen = figures.choose(files, read_labels(labels, columns), ids)
    raise typer.Exit(run(measuring.measure(chosen, table, sex, where, as_json=as_json)))


@app.command()
def serve(
    name: Annotated[ServiceName | None, typer.Argument(help="One service instead of all.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the assessment, or of the one service.")
    ] = None,
    inference: Annotated[
        Literal["onnxruntime", "triton"] | None, typer.Option(help="Where models run: in the services, or on Triton.")
    ] = None,
    triton_url: Annotated[
        str, typer.Option(metavar="HOST:PORT[,...]", help="Triton's gRPC; a name stands for all its addresses.")
    ] = "",
    store: Annotated[
        str, typer.Option(metavar="URL", help="Serve the releases of this store: a folder, or s3://BUCKET/PREFIX.")
    ] = "",
) -> None:
    """Run all services in one process group until a signal comes, or one service."""
    runtime = serving.runtime_environment(inference, triton_url, store)
    if name:
        serving.replace_by(name, port, runtime)
    raise typer.Exit(run(serving.serve_all(DEFAULT_PORT if port is None else port, runtime), stopped_exit_code=0))


@app.command()
def doctor(
    server: ServerOption = "",
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="What keeps a pod from its work instead, by the settings that it has.")
    ] = False,
    store_writable: Annotated[
        bool, typer.Option("--store-writable", help="With --cluster: that the store can be written too.")
    ] = False,
    services: Annotated[
        bool, typer.Option("--services", help="With --cluster: that the services of the settings are serving.")
    ] = False,
    schedulable: Annotated[
        Path | None, typer.Option(metavar="YAML", help="With --cluster: that a node takes this Pod; it is deleted.")
    ] = None,
) -> None:
    """Check Python, packages, models, ports, memory and a running server. Exits with 1 if there is a fault."""
    where = Server(server, tls_of(ca, certificate, key))
    if cluster:
        asked = Asked(store_writable=store_writable, services=services, server=where, schedulable=schedulable)
        raise typer.Exit(run(doctor_cluster(asked)))
    if store_writable or services or schedulable:
        raise UsageError("--store-writable, --services and --schedulable go with --cluster")
    raise typer.Exit(run(looking.doctor(where)))


@app.command()
def demo(
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Your own files instead of the samples.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the report.")] = Path("build/demo"),
) -> None:
    """Read the drawn samples, or your own files, and write a report with pictures."""
    samples = showing.own_samples(images) if images else showing.drawn_samples()
    raise typer.Exit(run(showing.demo(samples, out.resolve() / "report.html", console=table_console())))


def call() -> int:
    """Run the command line; the exit code of what the user can mend, said in one line."""
    try:
        app()
    except UsageError as error:
        say(f"boneage: {error}")
        return WRONG_USAGE
    except NOT_THE_SYSTEM as error:
        say(f"boneage: {error}")
        return 1
    except (ServiceStartError, BoneageError) as error:
        say(f"boneage: {error}\n`boneage doctor` looks for the cause.")
        return 1
    return 0
