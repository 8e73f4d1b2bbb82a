"""Reads uncompressed grey pixels whose size and type the caller states."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.adapters.imaging.decoded import Decoded
from services.core.adapters.imaging.limits import Limits
from services.core.errors import InvalidRadiographError, UnsupportedFormatError

FIELD: Final = "radiograph.raw"
PIXEL_TYPES: Final[Mapping[str, np.dtype[np.generic]]] = {
    "uint8": np.dtype("<u1"),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}


def decode_raw(data: bytes, *, height: int, width: int, pixel_format: str, limits: Limits) -> Decoded:
    """Read height x width pixels, row by row, of the little-endian type `pixel_format`: uint8, uint16 or float32.

    Whole numbers are divided by the greatest of their type; float32 must lie in [0, 1]. Raises InvalidRadiographError
    for a wrong byte count and for values that are not in [0, 1], UnsupportedFormatError for another type of pixel.
    """
    if pixel_format not in PIXEL_TYPES:
        raise UnsupportedFormatError(f"pixels are one of {', '.join(PIXEL_TYPES)}", field=f"{FIELD}.format")
    pixel_type = PIXEL_TYPES[pixel_format]
    limits.check_size(height, width, field=f"{FIELD}.size")
    expected = height * width * pixel_type.itemsize
    if len(data) != expected:
        raise InvalidRadiographError(
            f"{height} x {width} {pixel_format} pixels take {expected} bytes, not {len(data)}", field=f"{FIELD}.data"
        )
    pixels: NDArray[Any] = np.frombuffer(data, pixel_type).reshape(height, width)
    return Decoded(_checked(pixels) if pixel_format == "float32" else unit_range(pixels))


def unit_range(pixels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.float32]:
    """Unsigned whole numbers (H, W) as float32 in [0, 1]: 0 to the greatest of their type."""
    return np.asarray(np.multiply(pixels, np.float32(1 / np.iinfo(pixels.dtype).max), dtype=np.float32))


def _checked(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    levels = pixels.astype(np.float32)
    # A NaN fails both comparisons, so one look at each end finds it too.
    if not (levels.min() >= 0 and levels.max() <= 1):
        raise InvalidRadiographError("holds values that are not in [0, 1], or not numbers", field=f"{FIELD}.data")
    return levels
