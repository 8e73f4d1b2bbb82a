"""A real S3 server in the test's own process, on a free port of the loopback: moto's, which keeps objects in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from moto.server import ThreadedMotoServer

from tests.ports import LOOPBACK

BUCKET = "models"
SECRET = "the-secret-of-the-tests"


@dataclass(slots=True)
class S3:
    """The server, and the environment that its clients need."""

    server: ThreadedMotoServer
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Where a store of its own may lie."""
        return f"s3://{BUCKET}"


@contextmanager
def running_s3() -> Iterator[S3]:
    """The server with an empty bucket, and its address and credentials in the environment, while the context lasts."""
    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    try:
        with patch.dict(os.environ, environment):
            _make_bucket()
            yield S3(server, environment)
    finally:
        server.stop()


def _make_bucket() -> None:
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.close()
