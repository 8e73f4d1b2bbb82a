"""Reads grey PNG and JPEG files; size, depth and wholeness are read from the file's structure before it is decoded."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.adapters.imaging.codestream import judging
from services.core.adapters.imaging.decoded import Decoded
from services.core.adapters.imaging.jpeg import BASELINE, EXTENDED, PROGRESSIVE, jpeg_header
from services.core.adapters.imaging.jpeg import SIGNATURE as JPEG_SIGNATURE
from services.core.adapters.imaging.limits import Limits
from services.core.adapters.imaging.raw import unit_range
from services.core.errors import InvalidRadiographError, UnsupportedFormatError

Grey = NDArray[np.unsignedinteger[Any]]

FIELD: Final = "radiograph.encoded"
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK_OVERHEAD_BYTES: Final = 12
MAXIMUM_PNG_CHUNKS: Final = 50_000
JPEG_BITS: Final = 8
JPEG_COMPONENTS: Final = (1, 3)
COLOUR, COLOUR_AND_ALPHA = 3, 4
# Grey saved as colour in a JPEG file comes back with its channels up to this many of 255 levels apart.
GREY_TOLERANCE: Final = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """One file format: how it starts, how its structure is checked (giving height and width), how cv2 reads it."""

    name: str
    signature: bytes
    checked_size: Callable[[bytes], tuple[int, int]]
    flags: int


def decode_encoded(data: bytes, *, limits: Limits) -> Decoded:
    """Read a PNG or JPEG file of one grey channel, 8 or 16 bit, or of three equal ones.

    Raises UnsupportedFormatError for other formats, colour and transparency, ImageTooLargeError, and
    InvalidRadiographError for a file that is damaged or cut short.
    """
    limits.check_bytes(len(data), field=FIELD)
    kind = next((kind for kind in KINDS if data.startswith(kind.signature)), None)
    if kind is None:
        raise UnsupportedFormatError("is neither a PNG nor a JPEG file", field=FIELD)
    with judging(f"{kind.name} stream", field=FIELD):
        height, width = kind.checked_size(data)
    limits.check_size(height, width, field=FIELD)
    return Decoded(unit_range(_grey(_pixels(data, kind))))


def _pixels(data: bytes, kind: Kind) -> Grey:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), kind.flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InvalidRadiographError(f"the pixels of the {kind.name} file cannot be decoded", field=FIELD)
    return np.asarray(pixels)


def _grey(pixels: Grey) -> Grey:
    """The one channel of (H, W) or of (H, W, C) whose colours are equal and whose alpha is opaque."""
    if pixels.ndim == 2:  # noqa: PLR2004 - two axes: no channels
        return pixels
    greatest = np.iinfo(pixels.dtype).max
    if pixels.shape[2] == COLOUR_AND_ALPHA and pixels[..., -1].min() < greatest:
        raise UnsupportedFormatError("is transparent in places: a radiograph is opaque", field=FIELD)
    blue, green, red = (pixels[..., channel] for channel in range(COLOUR))
    tolerance = GREY_TOLERANCE * greatest // 255
    if max(_greatest_difference(green, blue), _greatest_difference(green, red)) > tolerance:
        raise UnsupportedFormatError("is a colour picture: a radiograph has one channel", field=FIELD)
    return np.ascontiguousarray(green)


def _greatest_difference(one: Grey, other: Grey) -> int:
    return int(cv2.absdiff(one, other).max())


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width of a PNG file whose chunks are whole, up to its end. Raises ValueError, struct.error."""
    chunks = _png_chunks(data)
    kind, header = next(chunks)
    if kind != b"IHDR" or b"IDAT" not in [kind for kind, _ in chunks]:
        raise ValueError("has no header or no pixels")
    width, height = struct.unpack_from(">II", header)
    return height, width


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and content of each chunk, checked against its sum."""
    view, place = memoryview(data), len(PNG_SIGNATURE)
    for _ in range(MAXIMUM_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", view, place)
        (expected,) = struct.unpack_from(">I", view, place + 8 + length)
        if zlib.crc32(view[place + 4 : place + 8 + length]) != expected:
            raise ValueError("has a chunk whose sum is wrong")
        yield kind, view[place + 8 : place + 8 + length]
        if kind == b"IEND":
            return
        place += length + PNG_CHUNK_OVERHEAD_BYTES
    raise ValueError("has more chunks than any image needs")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width of a whole JPEG file. Raises ValueError, struct.error, UnsupportedFormatError."""
    header = jpeg_header(data)
    if header.frame not in {BASELINE, EXTENDED, PROGRESSIVE} or header.precision_bits != JPEG_BITS:
        raise UnsupportedFormatError("JPEG is read as 8-bit baseline or progressive only", field=FIELD)
    if header.components not in JPEG_COMPONENTS:
        raise UnsupportedFormatError(f"JPEG with {header.components} components is not grey", field=FIELD)
    return header.height, header.width


KINDS: Final[tuple[Kind, ...]] = (
    Kind("PNG", PNG_SIGNATURE, _png_size, cv2.IMREAD_UNCHANGED),
    Kind("JPEG", JPEG_SIGNATURE, _jpeg_size, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR),
)
