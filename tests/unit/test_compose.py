"""What `deploy/compose.yaml` says of every container, without starting one."""

from pathlib import Path

import pytest
import yaml

from deploy.images import project_version
from services.core.runtime.settings import KNOWN_KEYS

SERVICES = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "compose.yaml").read_text())["services"]
ONCE = {"keys", "seed", "operator"}
UNCHECKED = ONCE | {"triton"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name):
    """It cannot write its root, gain rights, start processes without end or take the host's memory."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert not {"privileged", "user", "pid", "ipc", "network_mode"} & set(service)
    if name not in ONCE:
        assert service["mem_limit"]
        assert service["cpus"]
    if name not in UNCHECKED:
        assert service["healthcheck"]["test"]


def test_only_the_assessment_is_reached_from_outside():
    """By one port, of this host alone; everything else is on a network that leads nowhere."""
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "assessment": ["127.0.0.1:${PORT:-50051}:50051"]
    }
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {"assessment"}


def test_images_are_those_of_this_version():
    """Without a variable, what `make images` makes now."""
    tags = {service["image"].rpartition(":")[2].removeprefix("-").rstrip("}") for service in SERVICES.values()}
    assert tags == {project_version()}


def test_settings_are_known():
    """A process refuses a key that it does not know."""
    keys = {key for service in SERVICES.values() for key in service.get("environment", {})}
    assert "BONEAGE_HOST" in keys
    assert keys <= KNOWN_KEYS


def test_the_store_is_written_by_the_release_service_alone():
    """The sync only reads it; no service that answers has it at all."""
    mounts = {name: [v for v in service.get("volumes", ()) if "/srv/store" in v] for name, service in SERVICES.items()}
    assert {name for name, found in mounts.items() if found} == {"seed", "sync", "release"}
    assert mounts["sync"][0].endswith(":ro")
