"""The settings of the assessment service."""

from services.core.runtime.settings import RoutingSettings, ServerSettings, StageSettings, StageTlsSettings


class Settings(ServerSettings, StageSettings, StageTlsSettings, RoutingSettings):
    """Those of every server, where the stages are, and which release answers."""
