"""Has versions of models loaded by Tritons, through their model control in explicit mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.core.adapters.addresses import Addresses
from services.core.adapters.triton_client import connect, reason
from services.core.adapters.triton_config import Flavour, config_json
from services.core.domain.contracts import CONTRACTS
from services.core.errors import ModelContractError, ModelUnavailableError

KEY_HEADER: Final = "triton-grpc-protocol-admin-key"
"""What `tritonserver --grpc-restricted-protocol=model-repository:admin-key=...` asks for."""

ASK_TIMEOUT_S: Final = 5.0
LOAD_TIMEOUT_S: Final = 60.0
"""On a GPU engines are built first: a load that takes longer goes on in Triton, and is asked for again."""

WRONG_KEY: Final = "This protocol is restricted"
REFUSED: Final = "StatusCode.INVALID_ARGUMENT"
ABSENT: Final = ("at least one version must be available", "failed to poll from model repository")
"""How Triton says that its repository has none of the versions, or no such model."""


class TritonHost:
    """The Tritons at "HOST:PORT[,HOST:PORT...]", a name standing for all its addresses, as hosts of models.

    `key` opens their model control; empty where it is open to all. Raises ConfigurationError for any other `places`.
    """

    def __init__(self, places: str, *, key: str, flavour: Flavour) -> None:
        self._addresses = Addresses(places, field="BONEAGE_TRITON_URL")
        self._headers = {KEY_HEADER: key} if key else {}
        self._flavour: Flavour = flavour
        self._clients: dict[str, InferenceServerClient] = {}

    async def backends(self) -> tuple[str, ...]:
        """Addresses of the Tritons that there are now, as HOST:PORT."""
        addresses = await self._addresses.look_up()
        for gone in [address for address in self._clients if address not in addresses]:
            await self._clients.pop(gone).close()
        return addresses

    def runs(self, backend: str, model: str) -> bool:
        """Whether that Triton is one for that model: each is for all that there is a contract of."""
        return bool(backend) and model in CONTRACTS

    def knows(self, backend: str, release_id: str) -> bool:
        """Whether calls there can name that release: any, since a Triton is asked for versions alone."""
        return bool(backend and release_id)

    async def served(self, backend: str) -> frozenset[tuple[str, int]]:
        """The versions that are ready there. Raises ModelUnavailableError where it does not answer."""
        with _calling(backend):
            index = await self._client(backend).get_model_repository_index(self._headers, client_timeout=ASK_TIMEOUT_S)
        return frozenset((model.name, int(model.version)) for model in index.models if model.state == "READY")

    async def serve(self, backend: str, model: str, versions: frozenset[int]) -> None:
        """Have exactly these versions of a model served there; those that were served already are not loaded again.

        Raises ModelUnavailableError where it does not answer or a version is not in its repository (yet), and
        ModelContractError with its reason where it says that a model is wrong; what was served then still is.
        """
        client = self._client(backend)
        with _calling(backend):
            if not versions:
                await client.unload_model(model, self._headers, client_timeout=ASK_TIMEOUT_S)
                return
            config = config_json(CONTRACTS[model], flavour=self._flavour, versions=versions)
            await client.load_model(model, self._headers, config, client_timeout=LOAD_TIMEOUT_S)
        if missing := versions - {number for name, number in await self.served(backend) if name == model}:
            raise ModelUnavailableError(f"{backend} has no version {min(missing)} of {model} in its repository")

    async def close(self) -> None:
        """Close all connections."""
        while self._clients:
            await self._clients.popitem()[1].close()

    def _client(self, backend: str) -> InferenceServerClient:
        if backend not in self._clients:
            self._clients[backend] = connect(backend)
        return self._clients[backend]


@contextmanager
def _calling(backend: str) -> Iterator[None]:
    """Turns what Triton says of a call inside the context into an error of our tree."""
    try:
        yield
    except InferenceServerException as error:
        text = reason(error)
        if WRONG_KEY in text:
            raise ModelUnavailableError(f"{backend} does not take our key", field="BONEAGE_HOST_KEY_FILE") from error
        if error.status() == REFUSED and not any(absent in text for absent in ABSENT):
            raise ModelContractError(text) from error
        raise ModelUnavailableError(f"{backend}: {text}") from error
