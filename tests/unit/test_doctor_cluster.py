"""The doctor in a pod: every fault of what the pod was given is named with what to do, and nothing hangs."""

import os
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from boneage.v1 import segmentation_pb2_grpc
from services.cli import doctor_cluster, doctor_store
from services.cli.commands import app
from services.cli.doctor_cluster import Asked, check_certificates, check_names, check_services, check_settings
from services.cli.doctor_store import check_store
from services.cli.server import Server
from services.cli.usage import UsageError
from services.core.adapters.store import Store
from services.core.errors import ReleaseError
from services.core.runtime.server import Registration
from services.core.runtime.settings import PREFIX
from services.segmentation.servicer import SERVICE
from tests.certificates import Authority, MountedSecret
from tests.models import RELEASE_ID, publish_tiny, tiny_release
from tests.s3 import running_s3
from tests.serving import address, serving

NOBODY = Registration(
    SERVICE, segmentation_pb2_grpc.SegmentationServiceServicer(),
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server,
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No setting of the machine that the tests run on."""
    for key in [key for key in os.environ if key.startswith(PREFIX)]:
        monkeypatch.delenv(key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """One for all."""
    return Authority.make(tmp_path_factory.mktemp("authority") / "one")


@pytest.fixture(scope="module")
def s3():
    """One S3 server for all."""
    with running_s3() as server:
        yield server


def told(findings):
    """What was found, and what to do, as text."""
    return [f"{finding.detail} -> {finding.fix}" if finding.fault else finding.detail for finding in findings]


def test_settings_of_every_process_are_looked_at(monkeypatch):
    """One that is another process's and missing is no fault; one that is unknown or wrong is."""
    assert told(check_settings()) == ["all known"]
    monkeypatch.setenv("BONEAGE_UNLOAD_DELAY_S", "soon")
    [finding] = check_settings()
    assert finding.fault
    assert "BONEAGE_UNLOAD_DELAY_S" in finding.detail
    monkeypatch.setenv("BONEAGE_LAESE", "a/b")
    assert told(check_settings()) == ["BONEAGE_LAESE: no such setting -> correct BONEAGE_LAESE, or leave it out"]


def set_files(monkeypatch, secret, prefix="BONEAGE_TLS"):
    """Name the files of a Secret in the settings."""
    monkeypatch.setenv(f"{prefix}_CERTIFICATE_FILE", str(secret.folder / "tls.crt"))
    monkeypatch.setenv(f"{prefix}_KEY_FILE", str(secret.folder / "tls.key"))


def test_certificates_must_be_there_and_belong_together(monkeypatch, authority, tmp_path):
    """Of servers and of calls alike."""
    assert told(check_certificates()) == []
    secret = MountedSecret(tmp_path / "tls", first := authority.issue())
    set_files(monkeypatch, secret)
    set_files(monkeypatch, secret, "BONEAGE_STAGE_TLS")
    monkeypatch.setenv("BONEAGE_STAGE_TLS_CA_FILE", str(secret.folder / "ca.crt"))
    assert [text.partition("until")[0] for text in told(check_certificates())] == ["valid "] * 2
    secret.replace({**first, "tls.key": authority.issue()["tls.key"]})
    assert all("the key is not the certificate's -> look at the Secret" in text for text in told(check_certificates()))
    monkeypatch.setenv("BONEAGE_TLS_CERTIFICATE_FILE", str(tmp_path / "absent"))
    assert "cannot read" in told(check_certificates())[0]


def self_signed(*, days):
    """A certificate that ends so many days from now, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a service")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(9)).not_valid_after(now + timedelta(days))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return {"tls.crt": made.public_bytes(pem).decode(), "tls.key": key.private_bytes(pem, *form).decode(), "ca.crt": ""}


def test_a_certificate_that_has_ended_is_a_fault(monkeypatch, tmp_path):
    """One that holds says until when."""
    secret = MountedSecret(tmp_path / "tls", self_signed(days=1))
    set_files(monkeypatch, secret)
    assert told(check_certificates())[0].startswith("valid until 20")
    secret.replace(self_signed(days=-1))
    assert told(check_certificates()) == [
        "is not valid now -> have it renewed, by cert-manager or by replacing the Secret"
    ]


def test_names_in_addresses_must_be_known(monkeypatch):
    """In every setting that holds some."""
    assert told(check_names()) == []
    monkeypatch.setenv("BONEAGE_MODEL_HOSTS", "localhost:50051, 127.0.0.1:50052")
    monkeypatch.setenv("BONEAGE_SEGMENTATION_ADDRESS", "localhost:50051")
    assert told(check_names()) == ["all 3 are found"]
    monkeypatch.setenv("BONEAGE_RELEASE_ADDRESS", "no-such-name.invalid:50051")
    [text] = told(check_names())
    assert text.startswith("no-such-name.invalid is not found: ")
    assert "the Service of BONEAGE_RELEASE_ADDRESS" in text


async def test_services_must_be_serving(monkeypatch, authority, tmp_path):
    """Over TLS with the certificates of calls; what is not ready, not there, or not known says so."""
    monkeypatch.setattr(doctor_cluster, "SERVING_DEADLINE_S", 1.0)
    assert [f.detail async for f in check_services(Asked(services=True))] == ["no address of any is set"]
    secret = MountedSecret(tmp_path / "tls", authority.issue())
    set_files(monkeypatch, secret, "BONEAGE_STAGE_TLS")
    monkeypatch.setenv("BONEAGE_STAGE_TLS_CA_FILE", str(secret.folder / "ca.crt"))
    async with serving(NOBODY, **secret.server()) as process:
        monkeypatch.setenv("BONEAGE_CAM_ADDRESS", address(process))
        asked = Asked(services=True, server=Server("127.0.0.1:1"))
        [well, not_there] = [finding async for finding in check_services(asked)]
        assert (well.detail, well.fault) == (f"{address(process)} is serving", False)
        assert "127.0.0.1:1 does not answer" in not_there.detail
        await process.set_ready(ready=False)
        [finding] = [finding async for finding in check_services(Asked(services=True))]
        assert (finding.detail, finding.fault) == (f"{address(process)} is not ready", True)


async def test_what_hangs_is_a_fault_that_nobody_waits_for():
    """The process can end all the same."""
    never = threading.Event()

    def check():
        never.wait()
        return []

    [finding] = await doctor_cluster._within(0.05, "store", check, fix="look")
    assert (finding.name, finding.detail, finding.fix) == ("store", "no answer within 0 s", "look")
    never.set()


@pytest.fixture(params=["folder", "S3"])
def url(request, tmp_path):
    """A store of this test's own, which is there and empty."""
    if request.param == "S3":
        return f"{request.getfixturevalue('s3').url}/{tmp_path.name}"
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store")


def test_a_store_is_read_and_written_and_left_as_it_was(url):
    """Empty, and with a release."""
    well = ["can be read, and names nothing yet", "can be written, and nothing is written over"]
    assert told(check_store(url, writable=False)) == well[:1]
    assert told(check_store(url, writable=True)) == well
    publish_tiny(Store(url), tiny_release())
    before = Store(url).list("releases")
    assert told(check_store(url, writable=True))[0] == f"can be read, and names {RELEASE_ID}"
    assert Store(url).list("releases") == before


@pytest.mark.usefixtures("s3")
def test_a_store_that_is_not_there_is_a_fault(tmp_path):
    """Neither a folder nor a bucket is made by asking for it."""
    fault = "cannot be read: not found -> make the folder or bucket that BONEAGE_STORE names, or correct it"
    for url in (str(tmp_path / "absent"), "s3://no-such-bucket/models"):
        assert told(check_store(url, writable=True)) == [fault]
    assert told(check_store("", writable=True))[0].startswith("BONEAGE_STORE is not set")


class DeniedStore(Store):
    """One that may be read alone."""

    def create(self, path, data):
        """Never."""
        raise ReleaseError("permission denied", field=path)


class OverwrittenStore(Store):
    """An S3 server that does not know what exclusive means."""

    def create(self, path, data):
        """Write, whatever is there."""
        self.replace(path, data)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (
            DeniedStore,
            "cannot be written: permission denied -> give these credentials, or this user, the right to write",
        ),
        (OverwrittenStore, "what is there can be written over: it does not honour If-None-Match -> take an S3 server"),
    ],
)
def test_a_store_that_cannot_be_published_into_is_a_fault(monkeypatch, tmp_path, kind, fault):
    """And nothing of the trial is left."""
    monkeypatch.setattr(doctor_store, "Store", kind)
    assert told(check_store(str(tmp_path), writable=True))[1].startswith(fault)
    assert list(tmp_path.iterdir()) == []


def test_faults_end_with_1_and_what_to_do(monkeypatch, tmp_path):
    """In one table, which a log shows whole."""
    monkeypatch.setenv("BONEAGE_STORE", str(tmp_path / "absent"))
    done = CliRunner().invoke(app, ["doctor", "--cluster", "--store-writable"])
    assert done.exit_code == 1
    words = " ".join(done.output.replace("│", " ").split())
    assert "cannot be read: not found make the folder or bucket that BONEAGE_STORE names" in words


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["doctor", "--services"], "go with --cluster"),
        (["doctor", "--ca", "ca.pem", "--key", "key.pem"], "--certificate and --key go together"),
        (["assess", "--server", "a:1", "--certificate", "c.pem", "--key", "k.pem", __file__], "with --ca"),
    ],
)
def test_options_that_need_others_say_so(arguments, reason):
    """It is wrong usage, before anything is called."""
    with pytest.raises(UsageError, match=reason):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
