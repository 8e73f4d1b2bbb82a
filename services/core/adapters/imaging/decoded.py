"""What every decoder gives: grey levels, with what the file's header says of the patient."""

from dataclasses import dataclass

from services.core.domain.contracts import Sex
from services.core.domain.preprocess import Image


@dataclass(frozen=True, slots=True)
class Decoded:
    """A radiograph as decoded.

    `pixels` are (H, W) float32 in [0, 1], 1 being dense. `sex` is the header's, None where it says none.
    `study_uid_hash_key` is the Study Instance UID, None where there is none: to be hashed, never logged or sent on.
    """

    pixels: Image
    sex: Sex | None = None
    study_uid_hash_key: str | None = None
