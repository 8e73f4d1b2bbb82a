"""The settings of every process: `BONEAGE_*` in the environment, read once, anything unknown refused."""

import os
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.core.errors import ConfigurationError
from services.core.runtime.cores import available_cores
from services.core.runtime.logs import Level

PREFIX: Final = "BONEAGE_"
EMBEDDED_REPOSITORY: Final = Path(__file__).parents[3] / "deploy" / "models"


class Settings(BaseSettings):
    """The base of all groups."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", protected_namespaces=()
    )


class ServerSettings(Settings):
    """What every server process is told."""

    host: str = Field("127.0.0.1", description="Address to listen on; only this machine, until told otherwise.")
    grpc_port: int = Field(50051, ge=0, le=65535, description="TCP port for gRPC; 0 takes a free one.")
    http_port: int = Field(9100, ge=0, le=65535, description="TCP port for metrics and probes; 0 takes a free one.")
    ready_file: Path | None = Field(
        None, description="File that gets both ports as JSON once calls are answered; none, since most know the ports."
    )
    stop_with_stdin: bool = Field(
        False, description="Stop when standard input ends: whoever started the process holds the other end of it."
    )
    log_level: Level = Field("info", description="Least level that is logged; info is one line a call.")
    maximum_message_bytes: int = Field(
        64 * 2**20, ge=2**20, description="Bytes; 64 MiB holds an uncompressed 16-bit radiograph of 5600 x 5600."
    )
    maximum_pixels: int = Field(
        40_000_000, ge=1, description="Pixels of one radiograph; no hand needs more, and each takes 4 bytes here."
    )
    maximum_concurrent_calls: int = Field(
        16, ge=1, description="Calls worked on at once; one more is refused. Two for each of 8 clients."
    )
    worker_threads: int = Field(
        2, ge=1, description="Threads that decode and prepare pixels; each holds one decoded radiograph in memory."
    )
    connection_age_s: float = Field(
        15.0, gt=0, description="Seconds (10% jitter) until a client must connect anew, so that load finds new servers."
    )
    connection_grace_s: float = Field(
        30.0, gt=0, description="Seconds that calls on an aged connection may still take; the default deadline."
    )
    drain_delay_s: float = Field(
        0.0, ge=0, description="Seconds from NOT_SERVING to refusing calls; on a cluster what endpoints need to spread."
    )
    drain_grace_s: float = Field(
        20.0, ge=0, description="Seconds that calls in flight may take after a stop; below the usual 30 s until a kill."
    )
    tls_certificate_file: Path | None = Field(None, description="PEM chain of the server; none serves in the clear.")
    tls_key_file: Path | None = Field(None, description="PEM key of the server's certificate; set with it.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM authorities that clients' certificates must come from; none asks for no certificate."
    )


class ModelSettings(Settings):
    """What a process that runs a model is told besides."""

    model_repository: Path = Field(
        EMBEDDED_REPOSITORY, description="Folder in Triton's layout with the releases; the embedded one by default."
    )
    onnx_threads: int = Field(
        default_factory=available_cores,
        ge=1,
        description="Threads of one inference; all cores, or those of a container's limit, for the least latency.",
    )
    inference_queue: int = Field(
        16, ge=1, description="Inferences that may wait; as many as calls are let in, so that these decide."
    )


class RuntimeSettings(Settings):
    """Where models run."""

    inference: Literal["onnxruntime", "triton"] = Field(
        "onnxruntime", description="Runtime of the models: ONNX Runtime in the services, or Triton at its URL."
    )
    triton_url: str = Field(
        "", description="HOST:PORT of Triton's gRPC, several with commas; a name stands for all of its addresses."
    )
    host_key_file: Path | None = Field(
        None, description="File with the key that lets the release service load and unload models; none lets nobody."
    )


class RoutingSettings(Settings):
    """What a process that follows the routing is told besides."""

    release_address: str = Field(
        "", description="HOST:PORT of the release service; none answers with the repository's current release."
    )
    routing_file: Path | None = Field(
        None, description="File that keeps the last routing, to start by while the release service is down."
    )
    shadow_in_flight: int = Field(
        1, ge=0, description="Shadow readings at once; those beyond are dropped, so that answers are not slowed."
    )


class StoreSettings(Settings):
    """What a process that reads the store is told besides."""

    store: str = Field(
        description="URL of the model store: a folder, or s3://BUCKET/PREFIX; no default, to use no other."
    )
    trusted_key_files: str = Field(
        "", description="PEM public keys that releases may be signed with, commas between; none asks for no signature."
    )
    sync_interval_s: float = Field(2.0, gt=0, description="Seconds between two looks at the store.")


class ReleaseSettings(Settings):
    """What the release service is told besides."""

    model_hosts: str = Field(
        "", description="HOST:PORT of the model services, commas between: a release is routed to once all know it."
    )
    triton_flavour: Literal["cpu", "gpu"] = Field("cpu", description="Kind of instances that Triton is told to make.")
    callers_file: Path | None = Field(
        None, description="JSON of those who may change something, and what; none lets nobody change anything."
    )
    lock_file: Path | None = Field(
        None, description="File that one of several release services locks to be the active one; none is always active."
    )
    lease: str = Field(
        "", description="NAMESPACE/NAME of the Kubernetes Lease that makes one the active one, in place of a lock file."
    )
    reconcile_interval_s: float = Field(1.0, gt=0, description="Seconds between two looks at the runtimes.")
    ready_timeout_s: float = Field(
        120.0, gt=0, description="Seconds for a release to be loaded everywhere, or it is not let in; engines are slow."
    )
    unload_delay_s: float = Field(
        30.0, ge=0, description="Seconds until what nothing routes to is unloaded; the longest default deadline."
    )
    automatic: bool = Field(
        False, description="Roll new releases out by themselves: shadow, canary, gate; otherwise a person does."
    )
    assessment_metrics: str = Field(
        "", description="HOST:PORT of the assessments' HTTP ports, commas between; the gate judges by their /metrics."
    )
    shadow_assessments: int = Field(50, ge=0, description="Readings that a new release shadows; 0 skips the shadow.")
    canary_assessments: int = Field(100, ge=1, description="Answers that a canary gives before the gate judges it.")
    canary_permille: int = Field(50, ge=1, le=1000, description="Thousandths of the studies that a canary answers.")
    phase_timeout_s: float = Field(
        86_400.0, gt=0, description="Seconds for a phase to see enough; then the release is stopped. One day."
    )
    gate_failed_share: float = Field(
        0.01, ge=0, le=1, description="Greatest share of failed assessments above the current release's."
    )
    gate_latency_ratio: float = Field(
        1.5, gt=0, description="Greatest mean latency in units of the current release's over the same time."
    )
    gate_difference_months: float = Field(
        6.0, gt=0, description="Greatest mean difference of a shadow's ages from those answered; below the usual error."
    )
    gate_abstained_share: float = Field(
        0.05, ge=0, le=1, description="Greatest share of abstentions above the current release's."
    )
    gate_mae_months: float | None = Field(
        None, gt=0, description="Greatest error against readings; refused until a source of readings is configured."
    )


class StageSettings(Settings):
    """What a process that calls the model services is told besides."""

    segmentation_address: str = Field(description="HOST:PORT of the segmentation; no default, to call no wrong one.")
    enhancement_address: str = Field(description="HOST:PORT of the enhancement; no default, to call no wrong one.")
    regression_address: str = Field(description="HOST:PORT of the regression; no default, to call no wrong one.")
    cam_address: str = Field(description="HOST:PORT of the activation maps; no default, to call no wrong one.")
    stream_items_in_flight: int = Field(
        4, ge=1, description="Items of one stream worked on at once; one for each stage of the chain."
    )


class StageTlsSettings(Settings):
    """How a process calls other services of this system."""

    stage_tls_ca_file: Path | None = Field(
        None, description="PEM authorities of the certificates of services that are called; none calls in the clear."
    )
    stage_tls_certificate_file: Path | None = Field(None, description="PEM chain shown to them; for mutual TLS.")
    stage_tls_key_file: Path | None = Field(None, description="PEM key of that certificate; set with it.")


GROUPS: Final[tuple[type[Settings], ...]] = (
    ServerSettings,
    ModelSettings,
    RuntimeSettings,
    StageSettings,
    StageTlsSettings,
    RoutingSettings,
    StoreSettings,
    ReleaseSettings,
)
KNOWN_KEYS: Final = frozenset(PREFIX + name.upper() for group in GROUPS for name in group.model_fields)

Kind = TypeVar("Kind", bound=Settings)


def read_settings(kind: type[Kind]) -> Kind:
    """The settings of a process. Raises ConfigurationError for a key that no process knows and for a bad value.

    A key that another process reads is let through, since one environment often serves several.
    """
    unknown = sorted(key for key in os.environ if key.startswith(PREFIX) and key not in KNOWN_KEYS)
    if unknown:
        raise ConfigurationError("no such setting", field=unknown[0])
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(first["msg"].lower(), field=PREFIX + str(first["loc"][0]).upper()) from error
