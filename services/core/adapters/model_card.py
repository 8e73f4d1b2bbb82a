"""The card of a model's version, `card.json`: by what its file is known again, and whatever else training said."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.core.errors import ReleaseError


class ModelCard(BaseModel):
    """What every card states; training adds configuration, seed, data, metrics, parity and licence notice."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str = Field(min_length=1)
    version: int = Field(ge=1)
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def card_from_json(text: str, *, source: str) -> dict[str, Any]:
    """A card as it was written. Raises ReleaseError with `source` where a statement is missing or wrong."""
    try:
        return ModelCard.model_validate_json(text).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{place or 'card'}: {first['msg'].lower()}", field=source) from None
