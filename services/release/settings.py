"""The settings of the release service, and what it and the sync read alike from theirs."""

from pathlib import Path

from pydantic import Field

from services.core.runtime.settings import (
    ReleaseSettings,
    RuntimeSettings,
    ServerSettings,
    StageTlsSettings,
    StoreSettings,
)


class Settings(ServerSettings, StoreSettings, ReleaseSettings, RuntimeSettings, StageTlsSettings):
    """Those of every server, where the store and the runtimes are, and how releases are rolled out."""

    # A change may take as long as a release needs to be loaded; its connection must not be cut before.
    connection_grace_s: float = Field(300.0, gt=0, description="Seconds that calls on an aged connection may take.")


def trusted_keys(settings: StoreSettings) -> tuple[Path, ...]:
    """The public keys that releases may be signed with; none asks for no signature."""
    return tuple(Path(part.strip()) for part in settings.trusted_key_files.split(",") if part.strip())
