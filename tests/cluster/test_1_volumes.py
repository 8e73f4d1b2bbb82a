"""The smallest installation: nothing but the chart's own volumes, and models inside the services."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.authority import NAME, SERVING
from tests.cluster.conftest import phase
from tests.cluster.kube import ROOT, run
from tests.cluster.system import System

OTHER_AUTHORITY: Final = "/etc/ssl/certs/ca-certificates.crt"
DOCUMENTED: Final = ROOT / "docs" / "kubernetes.md"


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


def test_a_backup_brings_back_a_store_that_was_lost(on_volumes: System, tmp_path: Path) -> None:
    """The commands of the docs, word by word; between the two nothing is left in the store."""
    text = DOCUMENTED.read_text().split("## Backup and restore")[1].split("\n## ")[0]
    backup, restore = re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)

    def do(commands: str) -> None:
        here = commands.replace("-n boneage", f"-n {SERVING}").replace("store.tar", str(tmp_path / "store.tar"))
        run("bash", "-euc", here.replace("kubectl", on_volumes.cluster.kubectl))

    before = on_volumes.kept()
    with phase("backup, loss and restore"):
        do(backup)
        release = ("exec", f"deploy/{NAME}-release", "-c", "release", "-n", SERVING, "--")
        on_volumes.cluster(*release, "find", "/srv/store", "-mindepth", "1", "-delete")
        do(restore)
        on_volumes.ready()
    assert on_volumes.kept() == before
    on_volumes.helm("test", NAME)


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
