"""The settings of the regression service."""

from services.core.runtime.models import ModelServerSettings


class Settings(ModelServerSettings):
    """Those of every model service."""
