"""Signatures over a manifest: what a trusted key signed passes, unaltered, and nothing else does, with the reason."""

import base64
import json
import subprocess
import sys
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.adapters.signing import Trust, sign
from services.core.errors import ConfigurationError, ReleaseError
from tests.keys import make_keys

MANIFEST = b'{"id": "tiny-1"}\n'
NAME = "releases/tiny-1.json"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """One pair for all."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another pair."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signature(keys):
    """The manifest's."""
    return sign(MANIFEST, name=NAME, private_key=keys.private)


def refused(reason):
    """An error at the manifest."""
    return pytest.raises(ReleaseError, match=f"^{NAME}: {reason}")


def test_what_was_signed_passes_and_names_its_key(keys, signature):
    """The key is named by the digest of its PEM file, as openssl writes it."""
    assert Trust((keys.public,)).verify(MANIFEST, signature, name=NAME) == sha256(keys.public.read_bytes()).hexdigest()


def test_without_keys_nothing_has_to_be_signed(signature):
    """The embedded release is trusted as the code is."""
    assert not Trust()
    assert Trust(()).verify(MANIFEST, None, name=NAME) == Trust().verify(MANIFEST, signature, name=NAME) == ""


def test_two_keys_are_trusted_while_one_replaces_the_other(keys, other, signature):
    """Releases of the old and of the new key pass, in any order of the keys; then the old one goes."""
    newer = sign(MANIFEST, name=NAME, private_key=other.private)
    for trusted in ((keys.public, other.public), (other.public, keys.public)):
        trust = Trust(trusted)
        assert trust
        assert trust.verify(MANIFEST, signature, name=NAME) != trust.verify(MANIFEST, newer, name=NAME)
    with refused("is signed by a key that is not trusted here"):
        Trust((other.public,)).verify(MANIFEST, signature, name=NAME)


def test_what_is_not_signed_is_refused(keys):
    """With keys, a manifest alone is not enough."""
    with refused("is not signed$"):
        Trust((keys.public,)).verify(MANIFEST, None, name=NAME)


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"{}", b'{"verificationMaterial": {}}', b"\xff"])
def test_what_stands_for_a_signature_must_be_one(keys, content):
    """Any other file beside the manifest is no signature."""
    with refused("is not signed: what stands for the signature is none"):
        Trust((keys.public,)).verify(MANIFEST, content, name=NAME)


@given(st.integers(0, len(MANIFEST) - 1), st.integers(1, 255))
def test_any_altered_byte_is_seen(keys, signature, place, change):
    """Whatever byte is another, the manifest is not what was signed."""
    altered = bytearray(MANIFEST)
    altered[place] ^= change
    with refused("is not what was signed"):
        Trust((keys.public,)).verify(bytes(altered), signature, name=NAME)


def test_a_signature_that_claims_another_key_is_seen(keys, other):
    """A stranger who names the trusted key does not pass for it."""
    bundle = json.loads(sign(MANIFEST, name=NAME, private_key=other.private))
    bundle["verificationMaterial"]["publicKey"]["hint"] = sha256(keys.public.read_bytes()).hexdigest()
    with refused("is not what was signed"):
        Trust((keys.public,)).verify(MANIFEST, json.dumps(bundle).encode(), name=NAME)


def test_a_digest_exchanged_inside_the_signature_is_seen(keys, signature):
    """The statement that is signed cannot be made to fit an altered manifest."""
    bundle, altered = json.loads(signature), MANIFEST.replace(b"tiny", b"evil")
    statement = base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode()
    forged = statement.replace(sha256(MANIFEST).hexdigest(), sha256(altered).hexdigest())
    assert forged != statement
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(forged.encode()).decode()
    with refused("is not what was signed"):
        Trust((keys.public,)).verify(altered, json.dumps(bundle).encode(), name=NAME)


def test_keys_that_are_none_are_faults_of_the_configuration(tmp_path, keys):
    """Missing, damaged, of another kind or of another curve: told at the start, by the name of the file."""
    damaged, rsa = tmp_path / "damaged.pub", tmp_path / "rsa.key"
    damaged.write_text("-----BEGIN PUBLIC KEY-----\nnothing\n-----END PUBLIC KEY-----\n")
    subprocess.run(["openssl", "genrsa", "-out", rsa, "2048"], check=True, capture_output=True)
    curve = make_keys(tmp_path, "curve", curve="secp256k1")
    for path in (tmp_path / "absent.pub", damaged, keys.private, curve.public):
        with pytest.raises(ConfigurationError, match=f"^{path.name}: is no public key to verify with"):
            Trust((path,))
    for path in (tmp_path / "absent.key", damaged, keys.public, rsa, curve.private):
        with pytest.raises(ConfigurationError, match=f"^{path.name}: is no private key to sign with"):
            sign(MANIFEST, name=NAME, private_key=path)


def test_what_serves_needs_none_of_what_signs():
    """Neither the services nor the demo import the store or the signatures, so that they do without the extra."""
    code = (
        "import sys\n"
        "import services.segmentation.__main__, services.regression.__main__, services.cam.__main__\n"
        "import services.enhancement.__main__, services.assessment.__main__, services.cli.__main__\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'fsspec', 's3fs', 'model_signing', 'sigstore'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
