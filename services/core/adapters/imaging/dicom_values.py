"""Takes single values out of a DICOM header that anybody may have written, without ever repeating them in an error."""

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue

from services.core.errors import InvalidRadiographError

FIELD: Final = "radiograph.dicom"

# What pydicom and the codecs are known to raise on bytes that are not what they say they are.
DAMAGE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# pydicom warns and logs with the header's values, which may be the patient's: neither may reach a log.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom\b")


@contextmanager
def reading(reason: str) -> Iterator[None]:
    """Turn what a parser raises, whose text may hold a header's value, into InvalidRadiographError with `reason`."""
    try:
        yield
    except DAMAGE:
        raise InvalidRadiographError(reason, field=FIELD) from None


def integer(dataset: Dataset, keyword: str, *, default: int | None = None) -> int:
    """A whole number of the header; `default` where it is absent or empty, an InvalidRadiographError without one."""
    value = _first(dataset, keyword)
    if value is None:
        if default is None:
            raise InvalidRadiographError(f"{keyword} is missing", field=FIELD)
        return default
    if not isinstance(value, int):
        raise InvalidRadiographError(f"{keyword} is not a whole number", field=FIELD)
    return int(value)


def number(dataset: Dataset, keyword: str) -> float | None:
    """A number of the header, the first of several; None where it is absent or empty."""
    value = _first(dataset, keyword)
    if value is None:
        return None
    with reading(f"{keyword} is not a number"):
        result = float(value)
    if not math.isfinite(result):
        raise InvalidRadiographError(f"{keyword} is not a finite number", field=FIELD)
    return result


def text(dataset: Dataset, keyword: str) -> str:
    """A text of the header, the first of several, without the blanks around it; empty where it is absent."""
    value = _first(dataset, keyword)
    return "" if value is None else str(value).strip(" \0")


def _first(dataset: Dataset, keyword: str) -> Any:
    with reading(f"{keyword} is damaged"):
        value = dataset.get(keyword)
        if isinstance(value, MultiValue):
            value = value[0] if value else None
    return None if value in ("", None) else value
