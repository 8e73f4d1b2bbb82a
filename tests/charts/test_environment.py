"""What values say of the environment wins over what the charts say, and no variable is there twice."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.core.runtime.settings import PREFIX
from tests.charts.conftest import CHARTS, Helm, Object, containers_of, parsed, pod_of

SERVING, TRAINING = CHARTS
THEIRS = "9"
S3 = {"url": "s3://models/boneage", "s3": {"existingSecret": "reader", "writerSecret": "writer"}}
BASES: dict[str, dict[str, Any]] = {
    SERVING.name: {
        "store": S3,
        "inference": {"runtime": "triton"},
        "tls": {"mode": "existingSecret", "existingSecret": "certificates"},
        "trust": {"existingConfigMap": "keys", "files": ["release.pub"]},
        "callers": {"existingSecret": "callers"},
    },
    TRAINING.name: {
        "store": S3,
        "signing": {"existingSecret": "release-key"},
        "labelStudio": {"enabled": True, "image": {"repository": "label-studio"}, "tokenSecret": "token"},
    },
}


def containers(helm: Helm, chart: str, **values: Any) -> Iterator[tuple[str, Object]]:
    """All containers that a chart makes, by object and name."""
    options = [part for key, value in (BASES[chart] | values).items() for part in _json(key, value)]
    done = helm("template", "boneage", SERVING.with_name(chart), *options)
    assert done.returncode == 0, done.stderr
    for item in parsed(done.stdout):
        for container in containers_of(pod) if (pod := pod_of(item)) else ():
            yield f"{item['kind']} {item['metadata']['name']}/{container['name']}", container


def _json(key: str, value: Any) -> tuple[str, str]:
    return "--set-json", f"{key}={json.dumps(value)}"


def environments(helm: Helm, chart: str, **values: Any) -> dict[str, dict[str, str | None]]:
    """The variables of each container, none of which may be there twice."""
    found = {}
    for place, container in containers(helm, chart, **values):
        entries = container.get("env") or []
        found[place] = {entry["name"]: entry.get("value") for entry in entries}
        assert len(entries) == len(found[place]), place
    return found


def listed(names: set[str]) -> list[dict[str, str]]:
    """These variables as in a container, each with another value than the chart's."""
    return [{"name": name, "value": THEIRS} for name in sorted(names)]


@pytest.mark.parametrize("chart", BASES)
def test_extra_environment_wins(helm: Helm, chart: str) -> None:
    """Over all that the chart says, in the containers that do the work."""
    before = environments(helm, chart)
    extra = listed(set().union(*before.values()))
    more = {"labelStudio": BASES[chart]["labelStudio"] | {"extraEnv": extra}} if chart == TRAINING.name else {}
    after = environments(helm, chart, defaults={"extraEnv": extra}, **more)
    working = [place for place in before if place.startswith(("Deployment", "CronJob")) and _works(place)]
    assert len(working) >= 7
    for place in working:
        assert {after[place][name] for name in before[place]} == {THEIRS}, place


def _works(place: str) -> bool:
    return not place.endswith(("/sync", "/seed", "/doctor"))


@pytest.mark.parametrize("chart", BASES)
def test_the_environment_of_the_store_wins_wherever_it_is_opened(helm: Helm, chart: str) -> None:
    """In services, jobs and what stands beside or before them; elsewhere it changes nothing."""
    before = environments(helm, chart)
    opens = {place for place, told in before.items() if {"BONEAGE_STORE", "STORE"} & told.keys()}
    assert len(opens) >= 3
    names = {name for place in opens for name in before[place] if not name.startswith("MALLOC_")}
    after = environments(helm, chart, store=S3 | {"extraEnv": listed(names)})
    for place, told in before.items():
        if place in opens:
            assert {after[place][name] for name in names} == {THEIRS}, place
        else:
            assert after[place] == told, place


def test_settings_win_and_the_level_of_logs_is_everywhere(helm: Helm) -> None:
    """The sync and the seed have no settings of their own."""
    before = environments(helm, SERVING.name)
    names = {name for told in before.values() for name in told if name.startswith(PREFIX)}
    settings = {name.removeprefix(PREFIX): THEIRS for name in names} | {"LOG_LEVEL": "debug"}
    after = environments(helm, SERVING.name, defaults={"settings": settings})
    services = [place for place in before if place.startswith("Deployment") and _works(place) and "triton" not in place]
    assert len(services) == 6
    for place in services:
        assert {after[place][name] for name in names & before[place].keys()} == {THEIRS}, place
    beside = [place for place in after if place.startswith("Deployment") and place.endswith(("/sync", "/seed"))]
    assert len(beside) == 6
    assert {after[place]["BONEAGE_LOG_LEVEL"] for place in (*services, *beside)} == {"debug"}


def test_processes_of_a_pod_share_its_cores(helm: Helm) -> None:
    """Each has its part, and one thread at least."""
    for processes, threads in ((1, "4"), (2, "2"), (8, "1")):
        told = environments(helm, TRAINING.name, defaults={"processesPerNode": processes})
        assert told["CronJob boneage-transfer/job"]["OMP_NUM_THREADS"] == threads
