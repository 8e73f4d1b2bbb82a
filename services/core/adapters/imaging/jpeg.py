"""Reads the header of JPEG (ITU-T T.81) and JPEG-LS (T.87) streams without decoding a pixel."""

import struct
from collections.abc import Iterator
from typing import Final

from services.core.adapters.imaging.codestream import END_OF_IMAGE, Codestream

SIGNATURE: Final = b"\xff\xd8\xff"
# Start-of-frame markers (T.81 table B.1), JPEG-LS's own (T.87 annex C) and the hierarchical one, which stands for one.
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, HIERARCHICAL, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xDE, 0xF7
FRAMES: Final = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {HIERARCHICAL, JPEG_LS}
STANDALONE: Final = frozenset(range(0xD0, 0xD8)) | {0x01}
SCAN: Final = 0xDA
START_OF_SCAN: Final = bytes((0xFF, SCAN))
# A progressive image costs a pass over all pixels per scan; encoders write about ten, a decompression bomb thousands.
MAXIMUM_SCANS: Final = 32


def jpeg_header(data: bytes) -> Codestream:
    """The frame header of a whole JPEG or JPEG-LS stream. Raises ValueError or struct.error where it is not one."""
    if data.rfind(END_OF_IMAGE) < data.rfind(START_OF_SCAN):
        raise ValueError("is cut short")
    if data.count(START_OF_SCAN) > MAXIMUM_SCANS:
        raise ValueError("has more scans than any image needs")
    for marker, body in _segments(data):
        if marker in FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            return Codestream(height, width, components, precision, marker)
    raise ValueError("has no frame header")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment before the first scan; fill bytes may stand before a marker (T.81 B.1.1.2)."""
    if not data.startswith(SIGNATURE):
        raise ValueError("does not start like a JPEG stream")
    place = 2
    while True:
        fill, marker = struct.unpack_from(">BB", data, place)
        if fill != 0xFF:  # noqa: PLR2004 - the first byte of every marker
            raise ValueError("has a damaged marker")
        if marker == 0xFF:  # noqa: PLR2004 - fill bytes look like the start of a marker
            place += 1
        elif marker in STANDALONE:
            place += 2
        elif marker == SCAN:
            return
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            yield marker, data[place + 4 : place + 2 + length]
            place += 2 + length
