"""Settings: read from the environment once, documented, and anything unknown refused."""

import os
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import ConfigurationError
from services.core.runtime.models import ModelServerSettings
from services.core.runtime.process import write_ready_file
from services.core.runtime.server import server_credentials
from services.core.runtime.settings import GROUPS, PREFIX, ServerSettings, StageSettings, read_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that the tests run on."""
    for key in [key for key in os.environ if key.startswith(PREFIX)]:
        monkeypatch.delenv(key)


def test_every_setting_is_documented() -> None:
    """A sentence each, which a reader of the reference can act on."""
    for group in GROUPS:
        for name, field in group.model_fields.items():
            assert len(field.description or "") > 20, name


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value in the environment wins over the default, an empty one does not."""
    monkeypatch.setenv("BONEAGE_ONNX_THREADS", "3")
    monkeypatch.setenv("BONEAGE_TLS_KEY_FILE", "")
    settings = read_settings(ModelServerSettings)
    assert settings.onnx_threads == 3
    assert settings.tls_key_file is None
    assert settings.grpc_port == 50051


def test_key_of_another_process_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment often serves several services."""
    monkeypatch.setenv("BONEAGE_CAM_ADDRESS", "cam:50051")
    read_settings(ModelServerSettings)


def test_unknown_key_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error never passes for a default."""
    monkeypatch.setenv("BONEAGE_ONNX_THREDS", "3")
    with pytest.raises(ConfigurationError, match="BONEAGE_ONNX_THREDS: no such setting"):
        read_settings(ModelServerSettings)


@pytest.mark.parametrize(("key", "value"), [("GRPC_PORT", "70000"), ("ONNX_THREADS", "0"), ("LOG_LEVEL", "loud")])
def test_bad_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    """The text names the setting and never repeats the value."""
    monkeypatch.setenv(PREFIX + key, value)
    with pytest.raises(ConfigurationError, match=f"{PREFIX}{key}: ") as caught:
        read_settings(ModelServerSettings)
    assert value not in str(caught.value)


def test_missing_address_is_refused_by_name() -> None:
    """No stage is called by a guess."""
    with pytest.raises(ConfigurationError, match="BONEAGE_SEGMENTATION_ADDRESS: field required"):
        read_settings(StageSettings)


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ({"tls_key_file": "own.key"}, "BONEAGE_TLS_CERTIFICATE_FILE"),
        ({"tls_client_ca_file": "ca.pem"}, "BONEAGE_TLS_CERTIFICATE_FILE"),
        ({"tls_certificate_file": "missing.pem", "tls_key_file": "own.key"}, "BONEAGE_TLS_CERTIFICATE_FILE"),
        ({"tls_certificate_file": "own.pem"}, "BONEAGE_TLS_KEY_FILE"),
    ],
)
def test_half_a_tls_setting_is_refused(tmp_path: Path, files: dict[str, Any], field: str) -> None:
    """A server that was meant to speak TLS never speaks in the clear."""
    (tmp_path / "own.pem").write_text("certificate")
    (tmp_path / "own.key").write_text("key")
    given: dict[str, Any] = {name: tmp_path / value for name, value in files.items()}
    settings = ServerSettings(**given)
    with pytest.raises(ConfigurationError) as caught:
        server_credentials(settings)
    assert caught.value.field == field


def test_ready_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """Nothing else is left in the folder."""
    write_ready_file(tmp_path / "ready", grpc_port=1, http_port=2)
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]
    assert (tmp_path / "ready").read_text() == '{"grpc_port": 1, "http_port": 2}'
