"""The settings of the enhancement service."""

from services.core.runtime.models import ModelServerSettings


class Settings(ModelServerSettings):
    """Those of every model service."""
