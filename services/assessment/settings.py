"""The settings of the assessment service."""

from services.core.runtime.settings import ServerSettings, StageSettings


class Settings(ServerSettings, StageSettings):
    """Those of every server, and where the stages are."""
