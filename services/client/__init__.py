"""The client library: the one way to call these services, for hospitals, the command line and the services."""

from services.client.assessment import AssessmentClient
from services.client.channel import Tls, calling, connect
from services.client.release import ReleaseClient

__all__ = ["AssessmentClient", "ReleaseClient", "Tls", "calling", "connect"]
