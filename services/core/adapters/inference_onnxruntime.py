"""Runs models in this process with ONNX Runtime, from a model repository in Triton's layout."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.core.adapters.model_repository import verified_model_bytes
from services.core.domain.contracts import CONTRACTS, ModelContract
from services.core.domain.ports import Tensors
from services.core.domain.tensors import check_inputs, check_names, fits
from services.core.errors import DeadlineExceededError, ModelContractError, ModelUnavailableError, OverloadedError

PROVIDERS: Final = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""In order of preference; only those that the installed runtime has are used."""
FLOAT32: Final = "tensor(float)"


class OnnxRuntimeInference:
    """Fulfils `ports.Inference`. One inference runs at a time, on `threads` threads; at most `queue` more wait.

    One at a time is deliberate: every inference uses all its threads, so that running two at once would give no more
    throughput and twice the memory (FC-DenseNet takes some 240 MB an image).
    """

    def __init__(self, root: Path, versions: Mapping[str, Iterable[int]], *, threads: int, queue: int) -> None:
        self._root, self._threads = root, threads
        self._sessions = {
            (model, version): load_session(root, model, version, threads=threads)
            for model, numbers in versions.items()
            for version in numbers
        }
        self.models = frozenset(versions)
        self._changing = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._turn = asyncio.Lock()
        self._queue = queue
        self._waiting = 0

    async def infer(self, model: str, version: int, inputs: Tensors, *, timeout_s: float | None = None) -> Tensors:
        """Run a model on named inputs (B, ...). Raises ModelUnavailableError, OverloadedError, DeadlineExceededError.

        An inference that has begun is not broken off; one that still waits when its time is up, or its caller gone,
        never begins.
        """
        session = self._session(model, version)
        check_inputs(CONTRACTS[model], inputs)
        if self._waiting > self._queue:
            raise OverloadedError(f"{self._queue} inferences of {model} are waiting already")
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                # Shielded: the thread cannot be stopped, so that the turn stays taken until it is done.
                running = asyncio.get_running_loop().run_in_executor(self._pool, run, session, inputs)
                return await _finished(running)
        except TimeoutError:
            raise DeadlineExceededError(f"no time left for {model}") from None
        finally:
            self._waiting -= 1

    async def ready(self, model: str, version: int) -> bool:
        """Whether that version is loaded."""
        return (model, version) in self._sessions

    @property
    def loaded(self) -> frozenset[tuple[str, int]]:
        """Versions that answer now."""
        return frozenset(self._sessions)

    def load(self, model: str, version: int) -> None:
        """Load one more version, before any call. Raises as `load_session` does."""
        self._sessions[model, version] = load_session(self._root, model, version, threads=self._threads)

    async def serve(self, model: str, versions: frozenset[int]) -> None:
        """Have exactly these versions of a model loaded; calls that run on one that goes are answered by it.

        Raises ModelUnavailableError, ReleaseError or ModelContractError for a version that cannot be loaded: then
        nothing has changed.
        """
        async with self._changing:
            served = {number for name, number in self._sessions if name == model}
            new = {
                (model, number): await asyncio.to_thread(load_session, self._root, model, number, threads=self._threads)
                for number in sorted(versions - served)
            }
            # In one go, so that no call finds half of it.
            kept = {key: session for key, session in self._sessions.items() if key[0] != model or key[1] in versions}
            self._sessions = kept | new

    def _session(self, model: str, version: int) -> onnxruntime.InferenceSession:
        try:
            return self._sessions[model, version]
        except KeyError:
            raise ModelUnavailableError(f"{model} version {version} is not loaded here") from None


async def _finished(running: "asyncio.Future[dict[str, NDArray[np.float32]]]") -> dict[str, NDArray[np.float32]]:
    """The result; a caller that goes away waits for the thread to be done before it lets the next one in."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):  # once more: by our own time limit, then by the caller
                await asyncio.wait([running])
        raise


def run(session: onnxruntime.InferenceSession, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
    """All outputs by name."""
    names = [output.name for output in session.get_outputs()]
    feed = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in inputs.items()}
    return dict(zip(names, session.run(names, feed), strict=True))


def load_session(root: Path, model: str, version: int, *, threads: int) -> onnxruntime.InferenceSession:
    """Load one version. Raises ModelUnavailableError, and ReleaseError or ModelContractError where it is not right."""
    return open_session(verified_model_bytes(root, model, version), CONTRACTS[model], threads=threads)


def open_session(weights: bytes, contract: ModelContract, *, threads: int) -> onnxruntime.InferenceSession:
    """A session of the ONNX file that these bytes are. Raises ModelContractError where it is not what was agreed on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The arena keeps its peak, which is bounded since one inference runs at a time, and saves FC-DenseNet a quarter of
    # its time; planned patterns would keep far more, and one such block for each batch size.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    # Spinning threads take the cores from the other services between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=providers)
    except Exception as error:  # the runtime raises a dozen types of its own, all of them meaning the file
        raise ModelContractError(f"{contract.name}: this is no model that loads: {error}") from error
    check_contract(contract, session)
    return session


def check_contract(contract: ModelContract, session: onnxruntime.InferenceSession) -> None:
    """Compare names, types and shapes of all tensors. Raises ModelContractError with the first difference."""
    for kind, specs, found in (
        ("input", contract.inputs, session.get_inputs()),
        ("output", contract.outputs, session.get_outputs()),
    ):
        by_name = {node.name: node for node in found}
        check_names(contract, kind, specs, by_name)
        for spec in specs:
            node = by_name[spec.name]
            if node.type != FLOAT32 or not fits(spec, node.shape):
                raise ModelContractError(
                    f"{contract.name}: {kind} {spec.name} is {node.type} {node.shape}, not float32 {spec.dims}"
                )
