"""Releases that roll out by themselves, over real sockets: a good one goes all the way, a bad one is stopped."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from boneage.v1 import assessment_pb2, release_pb2
from services.client import AssessmentClient, ReleaseClient
from services.core.adapters.store import Store
from services.core.domain.routing import Routing
from services.core.errors import BoneageError, ConfigurationError
from tests.models import hand_picture, publish_tiny, tiny_release, write_repository
from tests.ports import LOOPBACK, free_port
from tests.serving import MODEL_SERVICES, address, as_png, running
from tests.waiting import until

PLAN = {
    "automatic": True, "sync_interval_s": 0.1, "reconcile_interval_s": 0.05, "shadow_assessments": 3,
    "canary_assessments": 4, "canary_permille": 500, "gate_latency_ratio": 20.0,
}  # fmt: skip


class Clinic:
    """The services on one store, and somebody who has hands read all the time."""

    def __init__(self, store, releases, client):
        self.store, self.releases, self._client = store, releases, client
        self.answered = []

    async def read(self):
        """One study after the other, until cancelled."""
        number = 0
        while True:
            number += 1
            request = assessment_pb2.AssessRequest(radiograph=as_png(hand_picture()), study_uid=f"1.2.{number}")
            self.answered.append((await self._client.assess(request)).release)

    async def status(self, release):
        """What became of a release, and why."""
        summary = (await self.releases.get(release)).summary
        return summary.status, summary.reason


@pytest.fixture
async def clinic(tmp_path):
    """All at work, with one release, which the rollout has seen."""
    root, key, metrics = write_repository(tmp_path / "store"), tmp_path / "key", free_port()
    key.write_text("the key")
    async with AsyncExitStack() as stack:
        models = {
            name: await stack.enter_async_context(running(name, model_repository=root, host_key_file=key))
            for name in MODEL_SERVICES
        }
        hosts = ",".join(map(address, models.values()))
        release = await stack.enter_async_context(
            running(
                "release", store=str(root), host_key_file=key, model_hosts=hosts,
                assessment_metrics=f"{LOOPBACK}:{metrics}", **PLAN,
            )
        )  # fmt: skip
        addresses = {f"{name}_address": address(process) for name, process in models.items()}
        assessment = await stack.enter_async_context(
            running("assessment", release_address=address(release), http_port=metrics, **addresses)
        )
        releases = await stack.enter_async_context(ReleaseClient(address(release)))
        client = await stack.enter_async_context(AssessmentClient(address(assessment)))
        made = Clinic(Store(str(root)), releases, client)
        reading = asyncio.create_task(made.read())
        await until(lambda: len(made.answered) > 2)
        yield made
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_good_release_comes_to_answer_everything(clinic):
    """Nobody does anything but publish; it shadows, answers a share, and is promoted."""
    publish_tiny(clinic.store, tiny_release("tiny-2", version=2), current=False)

    async def current():
        return (await clinic.releases.list()).routing.current == "tiny-2"

    await until(current, timeout_s=60)
    events = (await clinic.releases.get("tiny-2")).events
    assert [(event.caller, event.action) for event in events] == [
        ("automatic", "shadow"),
        ("automatic", "canary"),
        ("automatic", "promote"),
    ]
    count = len(clinic.answered)
    await until(lambda: clinic.answered[count:][-3:] == ["tiny-2"] * 3)


async def test_a_release_whose_ages_differ_answers_nobody(clinic):
    """Two years too old: it is stopped as a shadow, with the figure."""
    publish_tiny(clinic.store, tiny_release("tiny-2", version=2), older_months=24.0, current=False)

    async def refused():
        return (await clinic.status("tiny-2"))[0] == release_pb2.RELEASE_STATUS_REFUSED

    await until(refused, timeout_s=60)
    _, reason = await clinic.status("tiny-2")
    assert "its ages differ by 24.0 months on average from those answered, more than 6" in reason
    assert set(clinic.answered) == {"tiny-1"}
    assert (await clinic.releases.list()).routing == release_pb2.Routing(current="tiny-1")


async def test_a_release_that_was_altered_is_named_and_the_next_one_rolled_out(clinic, tmp_path):
    """A file is not what the manifest pins: the reason says which, and the rollout goes on."""
    elsewhere = Store(str(tmp_path / "elsewhere"))
    made = publish_tiny(elsewhere, tiny_release("tiny-2", version=2))
    for path in made.files:
        clinic.store.create(path, elsewhere.read(path) + (b" " if path == "boneage_regressor/2/card.json" else b""))
    clinic.store.create("releases/tiny-2.json", elsewhere.read("releases/tiny-2.json"))

    async def refused():
        return (await clinic.status("tiny-2"))[0] == release_pb2.RELEASE_STATUS_REFUSED

    await until(refused, timeout_s=60)
    assert "boneage_regressor/2/card.json" in (await clinic.status("tiny-2"))[1]
    publish_tiny(clinic.store, tiny_release("tiny-3", version=3), current=False)

    async def current():
        return (await clinic.releases.list()).routing.current == "tiny-3"

    await until(current, timeout_s=60)


async def test_what_is_there_at_the_first_start_is_left_to_people(tmp_path):
    """Only what is published from then on is rolled out."""
    root = write_repository(tmp_path / "store")
    publish_tiny(Store(str(root)), tiny_release("tiny-2", version=2), current=False)
    told = {"store": str(root), "model_hosts": "127.0.0.1:9", "assessment_metrics": "127.0.0.1:9", **PLAN}
    async with running("release", **told) as release, ReleaseClient(address(release)) as client:

        async def seen():
            return b'"known"' in Store(str(root)).read("releases/routing.json")

        await until((root / "releases" / "routing.json").exists)
        await until(seen)
        routing = (await client.list()).routing
        assert Routing(routing.current, shadow=routing.shadow) == Routing("tiny-1")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"assessment_metrics": ""}, "BONEAGE_ASSESSMENT_METRICS"),
        ({"gate_mae_months": 8.0}, "BONEAGE_GATE_MAE_MONTHS"),
        ({"model_hosts": ""}, "BONEAGE_MODEL_HOSTS"),
    ],
)
async def test_a_gate_that_could_not_judge_is_refused_at_the_start(tmp_path, settings, field):
    """No metrics, no readings, no runtimes: the setting is named, and nothing begins."""
    root = write_repository(tmp_path / "store")
    told = {"store": str(root), "model_hosts": "127.0.0.1:9", "assessment_metrics": "127.0.0.1:9", **PLAN, **settings}
    with pytest.raises(BoneageError) as caught:
        async with running("release", **told):
            pass
    assert type(caught.value) is ConfigurationError
    assert caught.value.field == field
