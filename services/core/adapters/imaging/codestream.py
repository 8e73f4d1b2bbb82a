"""What the header of a compressed image declares: all that is looked at before a codec is let loose on it."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidRadiographError

END_OF_IMAGE: Final = b"\xff\xd9"
"""Ends JPEG, JPEG-LS and JPEG 2000 alike; it cannot occur inside coded pixels, so a search for it finds the end."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a codestream declares of itself; `frame` is the start-of-frame marker of JPEG, 0 in JPEG 2000."""

    height: int
    width: int
    components: int
    precision_bits: int
    frame: int = 0


@contextmanager
def judging(name: str, *, field: str) -> Iterator[None]:
    """Turn what reading a header raises into InvalidRadiographError: a ValueError's text goes on after "its `name`"."""
    try:
        yield
    except ValueError as error:
        raise InvalidRadiographError(f"its {name} {error}", field=field) from None
    except (struct.error, LookupError, ArithmeticError):
        raise InvalidRadiographError(f"its {name} is damaged or cut short", field=field) from None
