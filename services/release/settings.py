"""The settings of the release service."""

from services.core.runtime.settings import ReleaseSettings, RuntimeSettings, ServerSettings, StoreSettings


class Settings(ServerSettings, StoreSettings, ReleaseSettings, RuntimeSettings):
    """Those of every server, where the store and the runtimes are, and how releases are rolled out."""
