"""The settings of the segmentation service."""

from services.core.runtime.models import ModelServerSettings


class Settings(ModelServerSettings):
    """Those of every model service."""
