"""Which arithmetic a network runs in where nobody says."""

import pytest

torch = pytest.importorskip("torch", reason="pip install '.[training]' for the tests of the training")

from training.run.precision import computes_in_bfloat16, cpu_autocast  # noqa: E402
from training.transfer.devices import choose_device  # noqa: E402


@pytest.fixture(autouse=True)
def _asked_anew():
    """The processor is asked once a process; here once a test."""
    computes_in_bfloat16.cache_clear()
    yield
    computes_in_bfloat16.cache_clear()


@pytest.mark.parametrize(("instruction", "expected"), [("amx_bf16", "bf16"), ("avx512_bf16", "bf16"), ("avx2", "fp32")])
def test_bfloat16_is_chosen_only_where_the_processor_computes_in_it(monkeypatch, instruction, expected):
    """Emulated it would take some fifteen times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instruction: True})
    assert choose_device(precision="auto", kind="cpu").precision == expected
    assert cpu_autocast()._enabled == (expected == "bf16")


def test_a_precision_that_is_asked_for_is_taken(monkeypatch):
    """The configuration has the last word."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_device(precision="bf16", kind="cpu").precision == "bf16"
