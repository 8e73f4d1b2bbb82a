"""Where a network learns: one CPU or GPU, or several processes that torchrun started, each with its share of a batch.

The GPU and multi-GPU paths follow torch's documentation; they were measured on CPU processes only.
"""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.run.exits import BadConfigurationError, JobError
from training.run.precision import computes_in_bfloat16

Decided = TypeVar("Decided")
Precision = Literal["bf16", "fp16", "fp32"]
AskedPrecision = Literal["auto", "bf16", "fp16", "fp32"]
TYPES: Final[dict[Precision, torch.dtype]] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class Device:
    """The device of this process, the precision of its arithmetic, and its place among the others."""

    kind: Literal["cpu", "cuda"]
    precision: Precision
    rank: int = 0
    world: int = 1

    @property
    def handle(self) -> torch.device:
        """For tensors and modules."""
        return torch.device(self.kind, int(os.environ.get("LOCAL_RANK", "0")) if self.kind == "cuda" else None)

    def autocast(self) -> torch.autocast:
        """Mixed precision for the forward pass."""
        return torch.autocast(self.kind, TYPES[self.precision], enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only float16 needs."""
        return torch.amp.GradScaler(self.kind, enabled=self.precision == "fp16")

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes."""
        if self.world == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        ids = [self.handle.index] if self.kind == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)

    def average_statistics(self, module: nn.Module) -> None:
        """Give every process the mean over all of them of what the modules that learn keep of the images that they saw.

        Each has seen other images: its batch norms alone would make of the same weights a network of its own. What is
        frozen is left alone, to the byte.
        """
        if self.world == 1:
            return
        learning = [part for part in module.modules() if part.training]
        kept = [buffer for part in learning for buffer in part.buffers(recurse=False) if buffer.is_floating_point()]
        if kept:
            together = torch.cat([buffer.flatten() for buffer in kept])
            distributed.all_reduce(together)
            means = (together / self.world).split([buffer.numel() for buffer in kept])
            for buffer, mean in zip(kept, means, strict=True):
                buffer.copy_(mean.view_as(buffer))

    def agreed(self, decide: Callable[[], Decided]) -> Decided:
        """What the first process decides, in all of them; the JobError that keeps it from deciding, too."""
        if self.world == 1:
            return decide()
        told: list[Any] = [None]
        if not self.rank:
            try:
                told = [decide()]
            except JobError as error:
                told = [error]
        distributed.broadcast_object_list(told, src=0, device=self.handle)
        if isinstance(told[0], JobError):
            raise told[0]
        decided: Decided = told[0]
        return decided

    def gathered(self, part: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The parts (n, ...) of all processes, in their order, in each of them."""
        parts = [part] * self.world
        if self.world > 1:
            distributed.all_gather_object(parts, part)
        return parts


def choose_device(*, precision: AskedPrecision, kind: Literal["auto", "cpu", "cuda"] = "auto") -> Device:
    """The device that is there; joins the others where torchrun started this process."""
    chosen: Literal["cpu", "cuda"] = "cuda" if kind != "cpu" and torch.cuda.is_available() else "cpu"
    if kind == "cuda" and chosen == "cpu":
        raise BadConfigurationError("device: cuda was asked for, and torch sees no GPU")
    arithmetic = _fastest(chosen) if precision == "auto" else precision
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Device(chosen, arithmetic)
    if not distributed.is_initialized():
        if chosen == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # what gathers objects asks no tensor where it lies
        distributed.init_process_group("nccl" if chosen == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)  # its threads, left alone, now and then abort the process
    return Device(chosen, arithmetic, distributed.get_rank(), distributed.get_world_size())


def _fastest(kind: Literal["cpu", "cuda"]) -> Precision:
    """The precision that is fastest where it keeps enough digits to learn with."""
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if kind == "cuda" else computes_in_bfloat16()
    return "bf16" if fast else "fp32"
