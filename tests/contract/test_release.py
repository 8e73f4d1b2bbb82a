"""The release service over real sockets, with real model services and a store in a folder."""

import asyncio
import json
from contextlib import AsyncExitStack
from hashlib import sha256

import pytest

from boneage.v1 import (
    assessment_pb2,
    assessment_pb2_grpc,
    common_pb2,
    model_host_pb2,
    model_host_pb2_grpc,
    regression_pb2,
    regression_pb2_grpc,
    release_pb2,
)
from services.client import AssessmentClient, ReleaseClient
from services.core.adapters.publishing import publish_model, publish_release
from services.core.adapters.store import Store
from services.core.domain.contracts import CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER
from services.core.domain.routing import Routing
from services.core.errors import (
    InvalidRequestError,
    ModelUnavailableError,
    PermissionDeniedError,
    ReleaseError,
    UnauthenticatedError,
    UnknownReleaseError,
)
from tests.models import hand_picture, tiny_release, write_repository
from tests.serving import MODEL_SERVICES, address, as_png, channel_to, http, make_certificates, refused, running
from tests.waiting import until

ALL = ["promote", "canary", "shadow", "rollback", "collect"]
FIRST, SECOND = "tiny-1", "tiny-2"


def callers(folder, *entries):
    """A file of callers."""
    path = folder / "callers.json"
    path.write_text(json.dumps({"callers": list(entries)}))
    return path


def entry(name, *, rights=ALL):
    """A caller whose token is the name itself."""
    return {"name": name, "token_sha256": sha256(name.encode()).hexdigest(), "rights": rights}


def publish_second(root, *, weights=None):
    """A second version of every model and a second release; `weights` in place of the regressor's."""
    store = Store(str(root))
    for name in (SEGMENTER, ENHANCER, REGRESSOR):
        own = weights if weights and name == REGRESSOR else root / name / "1" / "model.onnx"
        publish_model(store, CONTRACTS[name], 2, own, {"trained_on": "nothing: made by hand"})
    return publish_release(store, tiny_release(SECOND, version=2), current=False)


@pytest.fixture
async def group(tmp_path):
    """The release service, the four model services and the assessment, all at work on one folder."""
    root = write_repository(tmp_path / "store")
    key = tmp_path / "host.key"
    key.write_text("the host key")
    known = callers(tmp_path, entry("ops"), entry("viewer", rights=["shadow"]))
    async with AsyncExitStack() as stack:
        models = {
            name: await stack.enter_async_context(running(name, model_repository=root, host_key_file=key))
            for name in MODEL_SERVICES
        }
        release = await stack.enter_async_context(
            running(
                "release", store=str(root), host_key_file=key, callers_file=known, reconcile_interval_s=0.05,
                ready_timeout_s=20.0, unload_delay_s=0.0,
                model_hosts=",".join(address(process) for process in models.values()),
            )
        )  # fmt: skip
        assessment = await stack.enter_async_context(
            running(
                "assessment", release_address=address(release), routing_file=tmp_path / "routing.json",
                **{f"{name}_address": address(process) for name, process in models.items()},
            )
        )  # fmt: skip
        yield {**models, "release": release, "assessment": assessment, "root": root, "folder": tmp_path}


@pytest.fixture
async def ops(group):
    """A client that may do everything."""
    async with ReleaseClient(address(group["release"]), token="ops") as client:
        yield client


def ask(study=""):
    """A drawn hand."""
    return assessment_pb2.AssessRequest(radiograph=as_png(hand_picture()), study_uid=study)


async def answering(group, *, studies=("",)):
    """Releases that answer these studies."""
    async with AssessmentClient(address(group["assessment"])) as client:
        return [(await client.assess(ask(study))).release for study in studies]


async def test_a_promotion_reaches_the_answers(group, ops):
    """It is loaded by every service first; the next answers are its own, and after a rollback the old one's."""
    publish_second(group["root"])
    assert await answering(group) == [FIRST]
    assert await ops.promote(SECOND) == Routing(SECOND, previous=FIRST)

    async def answers(release):
        return await answering(group) == [release]

    await until(lambda: answers(SECOND))
    assert await ops.rollback("to try it") == Routing(FIRST, previous=SECOND)
    await until(lambda: answers(FIRST))


async def test_a_direct_call_gets_the_current_release(group, ops):
    """Whoever calls a stage without naming a release gets what the pointer names, without a restart."""
    publish_second(group["root"])
    await ops.promote(SECOND)
    async with channel_to(group["assessment"]) as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        named = await stub.Assess(assessment_pb2.AssessRequest(radiograph=as_png(hand_picture()), release=FIRST))
    assert {model.version for model in named.models} == {1}


async def test_a_canary_answers_its_share_of_the_studies(group, ops):
    """By study, always the same; the rest gets the current release."""
    publish_second(group["root"])
    routing = await ops.canary(SECOND, 500)
    assert routing == Routing(FIRST, canary=SECOND, canary_permille=500)
    studies = [f"1.2.840.{number}" for number in range(12)]
    expected = [routing.release_for(study.encode()) for study in studies]
    assert set(expected) == {FIRST, SECOND}

    async def follows():
        return await answering(group, studies=studies) == expected

    await until(follows)


async def test_a_shadow_is_counted_and_never_answers(group, ops):
    """Its readings are in the metrics; nobody gets them."""
    publish_second(group["root"])
    await ops.shadow(SECOND)

    async def shadowed():
        assert await answering(group) == [FIRST]
        _, metrics = await http(group["assessment"], "/metrics")
        return f'boneage_shadow_difference_months_count{{release="{SECOND}"}}' in metrics

    await until(shadowed)
    _, metrics = await http(group["assessment"], "/metrics")
    assert f'boneage_assessments_total{{outcome="ok",release="{SECOND}"}}' not in metrics
    assert f'boneage_shadow_difference_months_sum{{release="{SECOND}"}} 0.0' in metrics


async def test_the_routing_is_in_the_metrics(group, ops):
    """Dashboards know which release a figure belongs to."""
    publish_second(group["root"])
    await ops.canary(SECOND, 20)

    async def shown():
        _, metrics = await http(group["release"], "/metrics")
        return f'boneage_release_role{{release="{SECOND}",role="canary"}} 1.0' in metrics

    await until(shown)
    _, metrics = await http(group["release"], "/metrics")
    assert "boneage_canary_permille 20.0" in metrics
    assert f'boneage_release_baseline_mae_months{{release="{FIRST}"}} 8.0' in metrics


async def test_runtimes_that_lag_behind_are_in_the_metrics(group):
    """So that somebody is told of one that is gone, or lacks what is routed to."""

    async def shows(ready, lagging):
        _, metrics = await http(group["release"], "/metrics")
        expected = {
            f'boneage_release_backends{{state="{s}"}} {n}.0' for s, n in (("ready", ready), ("lagging", lagging))
        }
        return expected <= set(metrics.splitlines())

    await until(lambda: shows(4, 0))
    group["cam"].stop()
    await until(lambda: shows(3, 1))


@pytest.mark.parametrize("token", ["", "nobody"])
async def test_a_stranger_may_look_and_change_nothing(group, token):
    """Every change is refused as UNAUTHENTICATED; listing and showing are for all."""
    async with ReleaseClient(address(group["release"]), token=token) as client:
        assert [release.id for release in (await client.list()).releases] == [FIRST]
        assert (await client.get()).summary.id == FIRST
        for change in (client.promote(FIRST), client.canary(FIRST, 5), client.shadow(FIRST), client.rollback("")):
            with pytest.raises(UnauthenticatedError):
                await change
        with pytest.raises(UnauthenticatedError):
            await client.collect_garbage(keep=0, dry_run=True)


async def test_somebody_without_the_right_is_denied(group):
    """A known caller may do what the file says, and no more."""
    publish_second(group["root"])
    async with ReleaseClient(address(group["release"]), token="viewer") as client:
        assert (await client.shadow(SECOND)).shadow == SECOND
        with pytest.raises(PermissionDeniedError, match="viewer may not promote"):
            await client.promote(SECOND)


async def test_a_token_can_be_withdrawn_without_a_restart(group, ops):
    """The file is read again when it changes."""
    await ops.shadow("")
    callers(group["folder"], entry("somebody else"))
    with pytest.raises(UnauthenticatedError):
        await ops.shadow("")


async def test_who_did_what_is_told_and_logged(group, ops, capfd):
    """The caller's name stands in the release's events."""
    publish_second(group["root"])
    await ops.promote(SECOND)
    await ops.rollback("ages look wrong")
    events = (await ops.get(SECOND)).events
    assert [(event.caller, event.action, event.detail) for event in events] == [
        ("ops", "promote", ""),
        ("ops", "rollback", "ages look wrong"),
    ]


async def test_a_model_that_does_not_load_is_refused_with_its_reason(group, ops):
    """What serves goes on; the reason is in the listing."""
    bad = group["folder"] / "bad.onnx"
    bad.write_bytes((group["root"] / SEGMENTER / "1" / "model.onnx").read_bytes())
    publish_second(group["root"])
    target = group["root"] / REGRESSOR / "2" / "model.onnx"
    target.chmod(0o644)
    target.write_bytes(bad.read_bytes())
    with pytest.raises(ReleaseError, match="not the file that the release was published with"):
        await ops.promote(SECOND)
    listed = {release.id: release for release in (await ops.list()).releases}
    assert listed[SECOND].status == release_pb2.RELEASE_STATUS_REFUSED
    assert REGRESSOR in listed[SECOND].reason
    assert await answering(group) == [FIRST]


async def test_requests_that_make_no_sense_are_told_why(group, ops):
    """An unknown release, a share beyond all, a rollback to nowhere."""
    with pytest.raises(UnknownReleaseError):
        await ops.promote("../../etc/passwd")
    with pytest.raises(UnknownReleaseError):
        await ops.verify("nothing")
    with pytest.raises(InvalidRequestError, match="1 to 1000"):
        await ops.canary(SECOND, 1001)
    with pytest.raises(InvalidRequestError, match="no release before"):
        await ops.rollback("")


async def test_verify_counts_the_files(group, ops):
    """Card and weights of each of three models."""
    publish_second(group["root"])
    assert (await ops.verify(SECOND)).files == 6


async def test_garbage_goes_and_what_serves_stays(group, ops):
    """An old release and its versions are deleted; the store holds what is routed to."""
    publish_second(group["root"])
    told = await ops.collect_garbage(keep=0, dry_run=True)
    assert list(told.releases) == [SECOND]
    assert (group["root"] / REGRESSOR / "2" / "model.onnx").exists()
    done = await ops.collect_garbage(keep=0, dry_run=False)
    assert set(done.versions) == {f"{name}/2" for name in (SEGMENTER, ENHANCER, REGRESSOR)}
    assert not (group["root"] / REGRESSOR / "2" / "model.onnx").exists()
    assert await answering(group) == [FIRST]


async def test_the_last_routing_holds_while_the_release_service_is_down(group, ops):
    """It was kept: an assessment that starts now goes by it."""
    publish_second(group["root"])
    await ops.promote(SECOND)
    kept = group["folder"] / "routing.json"
    await until(lambda: json.loads(kept.read_text())["current"] == SECOND)
    addresses = {f"{name}_address": address(group[name]) for name in MODEL_SERVICES}
    async with (
        running("assessment", release_address="127.0.0.1:9", routing_file=kept, **addresses) as alone,
        AssessmentClient(address(alone)) as client,
    ):
        assert (await client.assess(ask())).release == SECOND


async def test_model_hosts_want_their_key(group):
    """Nobody else may load or unload what a service runs."""
    async with channel_to(group["regression"]) as channel:
        stub = model_host_pb2_grpc.ModelHostServiceStub(channel)
        with refused(UnauthenticatedError, field="boneage-host-key"):
            await stub.ListVersions(model_host_pb2.ListVersionsRequest())
        with refused(PermissionDeniedError, field="boneage-host-key"):
            await stub.ServeVersions(
                model_host_pb2.ServeVersionsRequest(model=REGRESSOR), metadata=(("boneage-host-key", "another"),)
            )
        with refused(InvalidRequestError, field="model"):
            await stub.ServeVersions(
                model_host_pb2.ServeVersionsRequest(model=SEGMENTER), metadata=(("boneage-host-key", "the host key"),)
            )


async def test_a_client_certificate_is_as_good_as_a_token(tmp_path):
    """The common name of a certificate that the server's authorities signed."""
    from services.client import Tls

    root, own = write_repository(tmp_path / "store"), make_certificates(tmp_path)
    key = tmp_path / "host.key"
    key.write_text("the host key")
    known = callers(tmp_path, {"name": "ci", "certificate": "localhost", "rights": ["shadow"]})
    tls = {"tls_certificate_file": own.certificate, "tls_key_file": own.key, "tls_client_ca_file": own.ca}
    async with running(
        "release", store=str(root), host_key_file=key, callers_file=known, model_hosts="127.0.0.1:9", **tls
    ) as release:
        tls_client = Tls(own.ca, own.certificate, own.key)
        async with ReleaseClient(f"localhost:{release.grpc_port}", tls=tls_client) as client:
            assert await client.shadow("") == Routing(FIRST)
            with pytest.raises(PermissionDeniedError, match="ci may not rollback"):
                await client.rollback("")


async def test_of_two_release_services_one_is_active(tmp_path):
    """The other waits for the lock, NOT_SERVING, and takes over with what was decided."""
    root = write_repository(tmp_path / "store")
    told = {"store": str(root), "model_hosts": "127.0.0.1:9", "lock_file": tmp_path / "lock"}
    known = callers(tmp_path, entry("ops"))
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running("release", callers_file=known, **told))
        waiting = asyncio.create_task(stack.enter_async_context(running("release", callers_file=known, **told)))
        async with ReleaseClient(address(first), token="ops") as client:
            assert await client.shadow("") == Routing(FIRST)
        assert not waiting.done()
        first.stop()
        second = await asyncio.wait_for(waiting, 30)
        async with ReleaseClient(address(second), token="ops") as client:
            assert (await client.list()).routing.current == FIRST


async def test_a_store_without_a_release_is_waited_for(tmp_path):
    """The service starts beside an empty store, and serves once something is published."""
    (tmp_path / "store").mkdir()
    starting = asyncio.create_task(_serves(tmp_path))
    done, _ = await asyncio.wait([starting], timeout=0.5)
    assert not done, "there is nothing to serve"
    write_repository(tmp_path / "store")
    assert await asyncio.wait_for(starting, 30) == FIRST


async def _serves(folder):
    async with (
        running("release", store=str(folder / "store"), model_hosts="127.0.0.1:9") as release,
        ReleaseClient(address(release)) as client,
    ):
        return (await client.list()).routing.current


async def test_what_a_client_names_is_no_label(group):
    """Metrics hold no text of a client's: who asks for releases that are none makes no series."""
    async with channel_to(group["assessment"]) as channel:
        stub = assessment_pb2_grpc.AssessmentServiceStub(channel)
        request = assessment_pb2.AssessRequest(radiograph=as_png(hand_picture()), release="DOE^JANE")
        with refused(UnknownReleaseError, field="release"):
            await stub.Assess(request)
    _, metrics = await http(group["assessment"], "/metrics")
    assert "DOE" not in metrics


async def test_a_release_that_a_stage_has_not_heard_of_is_worth_another_try(group, tmp_path):
    """It was chosen here, so that it exists: UNAVAILABLE, which clients try again, and not NOT_FOUND."""
    kept = tmp_path / "chosen.json"
    kept.write_text(json.dumps({"current": "tiny-9"}))
    addresses = {f"{name}_address": address(group[name]) for name in MODEL_SERVICES}
    async with running("assessment", release_address="127.0.0.1:9", routing_file=kept, **addresses) as ahead:
        async with channel_to(ahead) as channel:
            with refused(ModelUnavailableError, reason="tiny-9 has not come to every stage yet"):
                await assessment_pb2_grpc.AssessmentServiceStub(channel).Assess(ask())
        _, metrics = await http(ahead, "/metrics")
    assert 'boneage_assessments_total{outcome="failed",release="tiny-9"} 1.0' in metrics


async def test_damaged_weights_of_the_previous_release_keep_no_service_from_starting(group, ops):
    """What answers is whole; what is damaged is logged, and left out."""
    publish_second(group["root"])
    await ops.promote(SECOND)
    weights = group["root"] / REGRESSOR / "1" / "model.onnx"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-10])
    async with running("regression", model_repository=group["root"]) as alone, channel_to(alone) as channel:
        stub = regression_pb2_grpc.RegressionServiceStub(channel)
        asked = regression_pb2.EstimateBoneAgeRequest(hand=as_png(hand_picture()), sex=common_pb2.SEX_FEMALE)
        assert (await stub.EstimateBoneAge(asked)).release == SECOND
