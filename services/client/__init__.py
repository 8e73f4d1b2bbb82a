"""The client library: the one way to call these services, for hospitals, the command line and the services."""

from services.client.assessment import AssessmentClient
from services.client.channel import KEEPALIVE, calling, connect, open_channel
from services.client.release import ReleaseClient
from services.client.tls import Tls, stage_tls

__all__ = ["KEEPALIVE", "AssessmentClient", "ReleaseClient", "Tls", "calling", "connect", "open_channel", "stage_tls"]
