"""Weights of a version that was published: training begins with what serves, wherever its store is."""

import json
import os
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from services.core.adapters.model_repository import card_of
from services.core.adapters.publishing import read_current, read_release
from services.core.adapters.store import Store
from services.core.domain.release import CARD, WEIGHTS
from training.publish.store import store_errors
from training.publish.trained_on import card_of_copy
from training.run.exits import BadConfigurationError


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a model in a store (a folder, or s3://BUCKET/PREFIX); without a number, the one that serves now."""

    store: str
    model: str
    version: int | None = None

    def named(self) -> "Published":
        """The same with its number. Raises BadConfigurationError where nothing serves, or not this model."""
        if self.version is not None:
            return self
        with store_errors():
            store = Store(self.store)
            if not (current := read_current(store)):
                raise BadConfigurationError(f"no release serves from the store, so that no {self.model} does")
            models = read_release(store, current).models
        if self.model not in models:
            raise BadConfigurationError(f"release {current} has no {self.model}, but {', '.join(sorted(models))}")
        return replace(self, version=models[self.model])

    def fetch(self, folder: Path) -> Path:
        """A copy of the weights in `folder`, compared with their card, which is copied too.

        One of this store that is there already is what it was.

        Raises BadConfigurationError where there is no such version, or it is damaged; StoreUnwritableError where the
        store cannot be reached.
        """
        version = self.named().version
        assert version is not None
        store_name = sha256(self.store.encode()).hexdigest()[:8]
        path = folder / f"{self.model}-{version}-{store_name}.onnx"
        if path.exists():
            return path
        place = f"{self.model}/{version}"
        with store_errors():
            store = Store(self.store)
            if not store.exists(f"{place}/{CARD}"):
                raise BadConfigurationError(f"the store has no version {version} of {self.model}")
            card = card_of(store.read(f"{place}/{CARD}"), self.model, version, place=f"{place}/{CARD}")
            folder.mkdir(parents=True, exist_ok=True)
            # Processes that train together all fetch it, and the last to end puts the same file in its place.
            partial = folder / f"{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial"
            try:
                partial.write_text(json.dumps(card))
                partial.replace(card_of_copy(path))
                store.download(f"{place}/{WEIGHTS}", partial)
                if sha256(partial.read_bytes()).hexdigest() != card["model_sha256"]:
                    raise BadConfigurationError(f"{place}/{WEIGHTS} is not the file its card describes: it is damaged")
                return partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
