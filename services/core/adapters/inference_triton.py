"""Runs models on NVIDIA Triton, over gRPC: in turn on all servers that have the version ready."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException

from services.core.adapters.triton_backends import Backend, Backends, Version
from services.core.adapters.triton_client import failure
from services.core.domain.contracts import CONTRACTS, ModelContract
from services.core.domain.ports import Tensors
from services.core.domain.tensors import check_inputs, check_outputs
from services.core.errors import DeadlineExceededError, ModelUnavailableError

ATTEMPTS: Final = 3
FIRST_PAUSE_S: Final = 0.05
TIMEOUT_S: Final = 30.0
"""For who sets none: no call may wait for ever on a server that hangs."""


class Call:
    """One inference, until it is answered or given up."""

    def __init__(self, contract: ModelContract, version: int, inputs: Tensors, *, until_s: float) -> None:
        self.contract = contract
        self.version = version
        self.inputs = [as_input(spec.name, inputs[spec.name]) for spec in contract.inputs]
        self.batch = len(inputs[contract.inputs[0].name])
        self.until_s = until_s
        self.tried: list[Backend] = []

    @property
    def what(self) -> str:
        """What is run, for error texts."""
        return f"{self.contract.name} version {self.version}"

    def left_s(self) -> float:
        """Seconds left, in the time of the event loop."""
        return self.until_s - asyncio.get_running_loop().time()


class TritonInference:
    """Fulfils `ports.Inference` with the Tritons at "HOST:PORT[,HOST:PORT...]", a name standing for all its addresses.

    `wanted` gives the versions whose readiness is followed while `follow` runs; others are asked for when used.
    Raises ConfigurationError where there is no such place.
    """

    def __init__(self, places: str, wanted: Callable[[], Iterable[Version]]) -> None:
        self._backends = Backends(places, wanted)

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """Run a model on named inputs (B, ...) as `ports.Inference` says; also raises ModelContractError.

        A call that is cancelled or out of time before its turn has come never runs. Where a server is lost or lets go
        of the version, the others are tried.
        """
        contract, left_s = CONTRACTS[model], TIMEOUT_S if timeout_s is None else timeout_s
        check_inputs(contract, inputs)
        if left_s <= 0:
            raise DeadlineExceededError(f"no time left for {model}")
        call = Call(contract, version, inputs, until_s=asyncio.get_running_loop().time() + left_s)
        try:
            async with asyncio.timeout_at(call.until_s):
                return await self._persist(call)
        except TimeoutError:
            raise DeadlineExceededError(f"no time left for {call.what}") from None

    async def ready(self, model: str, version: int) -> bool:
        """Whether any server had that version ready when it was last asked."""
        return self.have_all([(model, version)])

    def have_all(self, versions: Iterable[Version]) -> bool:
        """Whether any one server had all of these versions ready when it was last asked."""
        return bool(self._backends.with_all(versions))

    async def follow(self) -> None:
        """Keep track of servers and versions until cancelled."""
        await self._backends.follow()

    async def until_polled(self) -> None:
        """Wait until all servers were asked again, while `follow` runs."""
        await self._backends.until_polled()

    async def close(self) -> None:
        """Close all connections; no call may be left."""
        await self._backends.close()

    async def _persist(self, call: Call) -> Tensors:
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._attempt(call)
            except ModelUnavailableError:
                pause_s = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1)  # noqa: S311 -- jitter, no secret
                if pause_s >= call.left_s():
                    raise
                await asyncio.sleep(pause_s)
        return await self._attempt(call)

    async def _attempt(self, call: Call) -> Tensors:
        version = (call.contract.name, call.version)
        backend = await self._backends.choose(version, tried=call.tried)
        call.tried.append(backend)
        try:
            with backend.calling():
                result = await _infer(backend, call)
        except InferenceServerException as error:
            failed = failure(error, what=call.what, left_s=call.left_s())
            if isinstance(failed, ModelUnavailableError):
                backend.ready.discard(version)
            raise failed from error
        outputs = as_outputs(result)
        check_outputs(call.contract, outputs, batch=call.batch)
        return outputs


async def _infer(backend: Backend, call: Call) -> InferResult:
    """Ask one server; it is told the time that is left, so that what is out of time in its queue never runs."""
    left_s = call.left_s()
    return await backend.client.infer(
        call.contract.name,
        call.inputs,
        model_version=str(call.version),
        timeout=max(1, int(left_s * 1e6)),
        client_timeout=left_s,
    )


def as_input(name: str, value: NDArray[np.float32]) -> InferInput:
    """A tensor as Triton takes it; what is not contiguous float32 is made so."""
    tensor = InferInput(name, value.shape, "FP32")
    tensor.set_data_from_numpy(np.asarray(value, dtype=np.float32))
    return tensor


def as_outputs(result: InferResult) -> dict[str, NDArray[np.float32]]:
    """All outputs by name; they are views of the message, which nobody may write to."""
    names = [output.name for output in result.get_response().outputs]
    return {name: np.asarray(result.as_numpy(name), dtype=np.float32) for name in names}
