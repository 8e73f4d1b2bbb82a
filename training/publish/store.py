"""What the publishing job asks of the model store before it starts, and how it tells what the store answers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.core.adapters.model_repository import RELEASES, ROUTING
from services.core.adapters.publishing import manifest_path
from services.core.adapters.signing import sign
from services.core.adapters.store import Store
from services.core.domain.release import CARD, WEIGHTS
from services.core.errors import (
    ConfigurationError,
    ModelContractError,
    ReleaseError,
    StoreUnavailableError,
    UnknownReleaseError,
)
from training.run.exits import BadConfigurationError, FailedError, StoreUnwritableError


@contextmanager
def store_errors() -> Iterator[None]:
    """The store's errors as a job's: it does not answer now, which may pass; it refuses, or it lacks what is asked for.

    Raises BadConfigurationError, StoreUnwritableError, FailedError.
    """
    try:
        yield
    except (ConfigurationError, ModelContractError, UnknownReleaseError) as error:
        raise BadConfigurationError(str(error)) from error
    except StoreUnavailableError as error:
        raise FailedError(str(error)) from error
    except ReleaseError as error:
        raise StoreUnwritableError(str(error)) from error


def check_release(store: Store, release_id: str, signing_key: Path | None) -> None:
    """Find out early what would only fail at the end. Raises BadConfigurationError, and as the store does."""
    if store.exists(manifest_path(release_id)):
        raise BadConfigurationError(f"release {release_id} is in the store already; releases never change")
    if signing_key is not None:
        sign(b"", name=release_id, private_key=signing_key)


def may_move_pointer(store: Store) -> bool:
    """Whether nobody else decides which release answers: where a release service does, it alone lets releases in."""
    return not store.exists(f"{RELEASES}/{ROUTING}.json")


def published_weights(store: Store, versions: Mapping[str, int], folder: Path) -> dict[str, Path]:
    """Copies of those versions that the store holds, by model. Raises ReleaseError."""
    found = {}
    for model, version in versions.items():
        if store.exists(f"{model}/{version}/{CARD}"):
            found[model] = folder / model / str(version) / WEIGHTS
            found[model].parent.mkdir(parents=True, exist_ok=True)
            store.download(f"{model}/{version}/{WEIGHTS}", found[model])
    return found
