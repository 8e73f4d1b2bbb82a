"""The smallest installation: nothing but the chart's own volumes, and models inside the services."""

import json
from typing import Final

import pytest

from tests.cluster.authority import NAME, SERVING
from tests.cluster.conftest import phase
from tests.cluster.system import System

OTHER_AUTHORITY: Final = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def on_volumes(system: System) -> System:
    """Installed from nothing."""
    with phase("install on volumes"):
        system.install("volumes")
        system.ready()
    return system


def test_it_reads_a_radiograph_over_tls(on_volumes: System) -> None:
    """`boneage assess --server` answers through the Service; who trusts another authority is not answered."""
    server = ("--server", f"{NAME}-assessment.{SERVING}.svc.cluster.local:50051", "--ca", "/authority/ca.crt")
    told = on_volumes.boneage("assess", "/radiographs", "--sex", "female", "--json", *server)
    records = [json.loads(line) for line in told.splitlines()]
    assert len(records) == len(on_volumes.radiographs)
    assert {record["status"] for record in records} <= {"OK", "ABSTAINED"}
    assert any(record["status"] == "OK" and 0 < record["age_months"] < 240 for record in records)
    for wrong in ((), ("--ca", OTHER_AUTHORITY)):
        told = on_volumes.boneage("assess", "/radiographs", *server[:2], *wrong, "--json", check=False)
        assert '"OK"' not in told


def test_helm_test_finds_all_well(on_volumes: System) -> None:
    """What the chart's own tests say."""
    done = on_volumes.helm("test", NAME)
    assert "Succeeded" in done.output


def test_data_stay_when_the_chart_goes(on_volumes: System) -> None:
    """Uninstalling keeps the claim with the store, and a new installation goes on with what is in it."""
    before = on_volumes.releases("list", "--json")
    on_volumes.helm("uninstall", NAME, "--wait")
    claims = on_volumes.cluster.items("persistentvolumeclaim", SERVING)
    assert [claim["metadata"]["name"] for claim in claims] == [f"{NAME}-store"]
    on_volumes.install("volumes")
    on_volumes.ready()
    assert json.loads(on_volumes.releases("list", "--json"))["releases"] == json.loads(before)["releases"]
    on_volumes.uninstall()
