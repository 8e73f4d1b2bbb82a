"""Reads what the headers of image codestreams declare, without decoding a pixel: JPEG (T.81, T.87), JPEG 2000 (T.800)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
# Start-of-frame markers (T.81 table B.1) and JPEG-LS's own (T.87 annex C); the rest of 0xC0 to 0xCF are no frames.
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {JPEG_LS}
START_OF_SCAN, END_OF_IMAGE, FILL = 0xDA, 0xD9, 0xFF
STANDALONE: Final = frozenset(range(0xD0, 0xD9)) | {0x01}

J2K_SIGNATURE: Final = b"\xff\x4f\xff\x51"
J2K_CODING, J2K_COMPONENT_CODING, J2K_TILE_PART, J2K_DATA = 0xFF52, 0xFF53, 0xFF90, 0xFF93
J2K_HEADER_BYTES: Final = 38


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a codestream declares of itself; `frame` is the start-of-frame marker of JPEG, 0 in JPEG 2000."""

    height: int
    width: int
    components: int
    precision_bits: int
    frame: int = 0


def jpeg_header(data: bytes) -> Codestream:
    """The frame header of a JPEG or JPEG-LS stream. Raises ValueError where there is none."""
    for marker, body in _jpeg_segments(data):
        if marker in FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            return Codestream(height, width, components, precision, marker)
    raise ValueError("has no frame header")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker segments up to the first scan."""
    if not data.startswith(JPEG_SIGNATURE):
        raise ValueError("does not start like a JPEG stream")
    place = 2
    while place + 4 <= len(data):
        if data[place] != FILL:
            raise ValueError("has a damaged marker")
        marker = data[place + 1]
        if marker == FILL:
            place += 1
        elif marker in STANDALONE:
            place += 2
        elif marker in {START_OF_SCAN, END_OF_IMAGE}:
            return
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            body = data[place + 4 : place + 2 + length]
            if length < 2 or len(body) < length - 2:  # noqa: PLR2004 - the length counts its own two bytes
                raise ValueError("ends inside its header")
            yield marker, body
            place += 2 + length


def jpeg_2000_header(data: bytes) -> Codestream:
    """The image and tile size segment (T.800 A.5.1) of a JPEG 2000 codestream. Raises ValueError where there is none."""
    if not data.startswith(J2K_SIGNATURE) or len(data) < 4 + J2K_HEADER_BYTES:
        raise ValueError("does not start like a JPEG 2000 codestream")
    _, _, right, bottom, left, top, *_, components, depth = struct.unpack_from(">HH8IHB", data, 4)
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1)
