"""The installation that the following tests go on with: the store on S3, models on Triton, two of everything."""

import json

from tests.cluster.authority import COMPONENTS, NAME, SERVING
from tests.cluster.kube import is_ready
from tests.cluster.looks import restarts, shown_certificate
from tests.cluster.system import System, until


def test_two_of_everything_are_ready_and_spread(serving: System) -> None:
    """Each component has a pod on each node."""
    for component in COMPONENTS:
        pods = [pod for pod in serving.cluster.pods(SERVING, component) if is_ready(pod)]
        assert len(pods) == 2, component
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 2, component


def test_it_reads_radiographs_over_tls(serving: System) -> None:
    """`boneage assess --server` answers through the Service, with the release that the store came with."""
    server = ("--server", f"{NAME}-assessment.{SERVING}.svc.cluster.local:50051", "--ca", "/authority/ca.crt")
    told = serving.boneage("assess", "/radiographs", "--sex", "female", "--json", *server)
    records = [json.loads(line) for line in told.splitlines()]
    current = json.loads(serving.releases("list", "--json"))["routing"]["current"]
    assert len(records) == len(serving.radiographs)
    assert {record["release"] for record in records} == {current}


def test_a_rotated_certificate_is_taken_up(serving: System) -> None:
    """A new certificate is shown without a restart of any pod."""
    before = {pod["metadata"]["name"]: restarts(pod) for pod in serving.cluster.pods(SERVING)}
    shown = shown_certificate(serving)
    serving.rotate_certificate()
    until(lambda: shown_certificate(serving) != shown, timeout_s=150, what="the new certificate shown")
    assert {pod["metadata"]["name"]: restarts(pod) for pod in serving.cluster.pods(SERVING)} == before
