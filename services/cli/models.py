"""What the embedded model repository says of a release: its models, its error on real radiographs, its training ids."""

from pathlib import Path
from typing import Any

from services.cli.report import RealPerformance
from services.core.adapters.model_repository import ModelRepository
from services.core.errors import BoneageError
from services.core.runtime.settings import ModelSettings, read_settings


def repository() -> Path:
    """The model repository of this machine's services. Raises ConfigurationError for a bad setting."""
    return read_settings(ModelSettings).model_repository


def reader_card(root: Path, release_id: str) -> dict[str, Any]:
    """The card of the model that reads in a release; empty where the repository at `root` does not hold it."""
    try:
        store = ModelRepository(root)
        release = store.get(release_id)
        return dict(store.card(release.reader, release.models[release.reader]))
    except BoneageError:
        return {}


def real_performance(card: dict[str, Any]) -> RealPerformance | None:
    """The error on the test part that a regressor's card states; None where it states none."""
    figures = card.get("metrics", {}).get("test", {})
    if "mae_months" not in figures:
        return None
    return RealPerformance(figures["mae_months"], f"test part, {figures['n']} radiographs")
