"""The API of the Kubernetes that this process runs in, or that KUBECONFIG names; needs the extra `cluster`."""

import os
from typing import Final

import urllib3
from kubernetes import client, config

from services.core.errors import ConfigurationError

CALL_TIMEOUT_S: Final = 3.0
"""Of one request: an API server that does not answer by then may as well not be there."""
UNREACHED: Final = (client.ApiException, urllib3.exceptions.HTTPError, OSError)
"""All that a request raises that was not answered as asked."""


def connect() -> client.ApiClient:
    """A client with the account of this pod, or KUBECONFIG's. Raises ConfigurationError where there is neither."""
    configuration = client.Configuration()
    configuration.retries = False  # whoever asks knows better how long it is worth to ask again
    load = config.load_kube_config if os.environ.get("KUBECONFIG") else config.load_incluster_config
    try:
        load(client_configuration=configuration)
    except config.ConfigException as error:
        reason = f"no access to Kubernetes: {error}; run in a pod with a service account's token, or set KUBECONFIG"
        raise ConfigurationError(reason) from None
    return client.ApiClient(configuration)


def why(error: Exception) -> str:
    """What became of a request, in short: what the API server says of it, without what was sent."""
    if isinstance(error, client.ApiException):
        return f"the API server answers {error.status} {error.reason}"
    return f"the API server does not answer ({type(error).__name__})"
