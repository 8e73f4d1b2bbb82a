"""Certificates that are replaced while the services run, with real ones over real connections: no call notices."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from boneage.v1 import assessment_pb2, segmentation_pb2_grpc
from services.client import AssessmentClient, connect, stage_tls, tls
from services.core.adapters.addresses import Addresses
from services.core.adapters.pem_files import PemFiles
from services.core.errors import BoneageError, ConfigurationError, ModelUnavailableError
from services.core.runtime.process import Process
from services.core.runtime.server import Registration
from services.core.runtime.settings import StageTlsSettings
from services.release.services_host import ServicesHost
from services.segmentation.servicer import SERVICE
from tests.certificates import Authority, MountedSecret
from tests.models import hand_picture, write_repository
from tests.ports import LOOPBACK
from tests.serving import MODEL_SERVICES, address, as_png, running, serving
from tests.waiting import until

EVERYBODY = len(MODEL_SERVICES) * 2 + 2
"""Who has certificates: five servers, the assessment's channels, and the client."""
NOBODY = Registration(
    SERVICE, segmentation_pb2_grpc.SegmentationServiceServicer(),
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server,
)  # fmt: skip


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """An old one and a new one."""
    folder = tmp_path_factory.mktemp("authorities")
    return Authority.make(folder / "old"), Authority.make(folder / "new")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """Clients look at their files more often than once a second."""
    monkeypatch.setattr(tls, "LOOK_S", 0.05)


def shown(process: Process) -> str:
    """The certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return ssl.get_server_certificate((LOOPBACK, process.grpc_port))


def taken(logs) -> int:
    """How often certificates were taken up."""
    return sum(entry["event"] == "certificates taken up" for entry in logs)


async def health(channel: grpc.aio.Channel) -> int:
    """What the server says."""
    return int((await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)).status)


async def test_a_server_shows_what_is_on_disk_now(authorities, tmp_path):
    """The next connection gets the new certificate; those that stand go on."""
    old, _ = authorities
    secret = MountedSecret(tmp_path / "tls", first := old.issue())
    settings = {key: path for key, path in secret.server().items() if key != "tls_client_ca_file"}
    async with serving(NOBODY, **settings) as process:
        assert await asyncio.to_thread(shown, process) == first["tls.crt"]
        async with connect(address(process), SERVICE, tls=tls.Tls(secret.folder / "ca.crt")) as channel:
            await health(channel)
            secret.replace(second := old.issue())
            assert await asyncio.to_thread(shown, process) == second["tls.crt"]
            await health(channel)


async def test_a_key_of_another_certificate_is_not_taken(authorities, tmp_path):
    """What was there before is shown; that is said once, and what is right again is taken up."""
    old, _ = authorities
    secret = MountedSecret(tmp_path / "tls", first := old.issue())
    settings = {key: path for key, path in secret.server().items() if key != "tls_client_ca_file"}
    async with serving(NOBODY, **settings) as process:
        second = old.issue()
        with capture_logs() as logs:
            secret.replace({**second, "tls.key": first["tls.key"]})
            for _ in range(2):
                assert await asyncio.to_thread(shown, process) == first["tls.crt"]
            secret.replace({**second, "tls.crt": "nothing"})
            assert await asyncio.to_thread(shown, process) == first["tls.crt"]
            secret.replace(second)
            assert await asyncio.to_thread(shown, process) == second["tls.crt"]
    told = [entry.get("reason", "").rpartition(": ")[2] for entry in logs if entry["event"].startswith("certificates")]
    assert told == ["the key is not the certificate's", "no PEM that can be used", ""]


def test_files_that_do_not_fit_are_refused_at_the_start(authorities, tmp_path):
    """With the setting and the file."""
    old, _ = authorities
    fields = ("CA", "CERTIFICATE", "KEY")
    first, second = old.issue(), old.issue()
    secret = MountedSecret(tmp_path / "tls", {**first, "tls.key": second["tls.key"]})
    paths = [secret.folder / name for name in ("ca.crt", "tls.crt", "tls.key")]
    with pytest.raises(ConfigurationError, match=r"CERTIFICATE: .*tls.crt and .*tls.key: the key is not the certifi"):
        PemFiles(*paths, fields=fields)
    secret.replace({**first, "ca.crt": ""})
    with pytest.raises(ConfigurationError, match=r"CA: .*ca.crt: no PEM that can be used"):
        PemFiles(*paths, fields=fields)
    with pytest.raises(ConfigurationError, match=r"KEY: cannot read .*absent: No such file"):
        PemFiles(paths[0], paths[1], tmp_path / "absent", fields=fields)
    with pytest.raises(ConfigurationError, match="BONEAGE_STAGE_TLS_CA_FILE: set the authorities too"):
        stage_tls(StageTlsSettings(stage_tls_certificate_file=paths[1]))


async def test_a_client_keeps_what_works_until_what_is_new_does(authorities, tmp_path):
    """A certificate that the server does not take yet, as where one side of a change is late: no call fails."""
    old, new = authorities
    here = MountedSecret(tmp_path / "here", old.issue())
    there = MountedSecret(tmp_path / "there", old.issue())
    both = old.certificate + new.certificate
    async with (
        serving(NOBODY, connection_age_s=0.1, **there.server()) as process,
        connect(address(process), SERVICE, tls=here.tls, attempts=1) as channel,
    ):
        await health(channel)
        first = channel.current
        with capture_logs() as logs:
            here.replace(new.issue(trusted=both))  # the server does not know this authority yet
            await until(lambda: taken(logs) == 1)
        for _ in range(20):
            await health(channel)
        assert channel.current is first
        there.replace(new.issue(trusted=both))
        await until(lambda: channel.current is not first)
        await health(channel)


async def test_a_call_goes_on_where_it_was_begun(authorities, tmp_path):
    """A watch on the channel that is replaced is not cut."""
    old, _ = authorities
    secret = MountedSecret(tmp_path / "tls", old.issue())
    async with (
        serving(NOBODY, **secret.server()) as process,
        connect(address(process), SERVICE, tls=secret.tls) as channel,
    ):
        watch = aiter(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30))
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
        first = channel.current
        secret.replace(old.issue())
        await until(lambda: channel.current is not first)
        await process.set_ready(ready=False)
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def chain(repository, secret: MountedSecret) -> AsyncIterator[Process]:
    """All five services over mutual TLS, with connections that are renewed all the while; gives the assessment's."""
    told = {**secret.server(), "connection_age_s": 0.3}
    async with AsyncExitStack() as stack:
        addresses = {}
        for name in MODEL_SERVICES:
            process = await stack.enter_async_context(running(name, model_repository=repository, **told))
            addresses[f"{name}_address"] = address(process)
        yield await stack.enter_async_context(running("assessment", **addresses, **told, **secret.outgoing()))


async def test_no_call_fails_while_everything_is_replaced(authorities, tmp_path):
    """First both authorities are trusted, then the new one signs, then the old one goes, all under calls."""
    old, new = authorities
    both = old.certificate + new.certificate
    services = MountedSecret(tmp_path / "services", old.issue())
    caller = MountedSecret(tmp_path / "caller", old.issue())
    request = assessment_pb2.AssessRequest(radiograph=as_png(hand_picture()))
    answered, stop = [], asyncio.Event()

    async def calling(client: AssessmentClient) -> None:
        while not stop.is_set():
            try:
                answered.append((await client.assess(request)).release)
            except BoneageError as error:
                answered.append(str(error))

    with capture_logs() as logs:
        async with (
            chain(write_repository(tmp_path / "models"), services) as assessment,
            AssessmentClient(address(assessment), tls=caller.tls) as client,
        ):
            loads = [asyncio.create_task(calling(client)) for _ in range(2)]
            for trusted, signer in ((both, old), (both, new), (new.certificate, new)):
                made = [signer.issue(trusted=trusted) for _ in range(2)]
                logs.clear()
                for secret, contents in zip((services, caller), made, strict=True):
                    secret.replace(contents)
                await until(lambda: taken(logs) >= EVERYBODY)
                answered_so_far = len(answered)
                await until(lambda before=answered_so_far: len(answered) > before + 4)
            stop.set()
            await asyncio.gather(*loads)
            assert await asyncio.to_thread(shown, assessment) == (services.folder / "tls.crt").read_text()
    assert set(answered) == {"tiny-1"}
    assert [entry for entry in logs if entry["event"] == "certificates not taken up"] == []


@pytest.mark.parametrize(("names", "reached"), [("DNS:localhost", True), ("DNS:elsewhere", False)])
async def test_instances_are_dialled_and_their_name_is_checked(authorities, tmp_path, names, reached):
    """The release service calls every address of a name; certificates hold the name, and no address."""
    old, _ = authorities
    secret = MountedSecret(tmp_path / "tls", old.issue(names))
    repository, key = write_repository(tmp_path / "models"), tmp_path / "host.key"
    key.write_text("the host key")
    async with running("segmentation", model_repository=repository, host_key_file=key, **secret.server()) as process:
        places = Addresses(f"localhost:{process.grpc_port}", field="BONEAGE_MODEL_HOSTS")
        host = ServicesHost(places, "the host key", tls=secret.tls)
        try:
            assert await host.backends() == (address(process),)
            if reached:
                assert await host.served(address(process)) == {("hand_segmenter", 1)}
            else:
                with pytest.raises(ModelUnavailableError, match="Hostname Verification"):
                    await host.served(address(process))
        finally:
            await host.close()
