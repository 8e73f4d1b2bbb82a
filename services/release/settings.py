"""The settings of the release service."""

from pydantic import Field

from services.core.runtime.settings import ReleaseSettings, RuntimeSettings, ServerSettings, StoreSettings


class Settings(ServerSettings, StoreSettings, ReleaseSettings, RuntimeSettings):
    """Those of every server, where the store and the runtimes are, and how releases are rolled out."""

    # A change may take as long as a release needs to be loaded; its connection must not be cut before.
    connection_grace_s: float = Field(300.0, gt=0, description="Seconds that calls on an aged connection may take.")
