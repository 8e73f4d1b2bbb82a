"""The arithmetic that is fast where a network runs: bfloat16 only on processors that compute in it.

Elsewhere torch emulates it, some fifteen times slower than float32.
"""

from functools import cache

import torch

NATIVE = ("amx_bf16", "avx512_bf16")
"""What a processor that computes in bfloat16 has, in the names of `torch.cpu.get_capabilities`."""


@cache
def computes_in_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in NATIVE)


def cpu_autocast() -> torch.autocast:
    """Mixed precision on a CPU, where that is faster; else none."""
    return torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16())
