"""Reads the headers of a JPEG 2000 codestream (ITU-T T.800 annex A) without decoding a pixel.

A few hundred bytes can declare an image of millions of tiny tiles, precincts or code-blocks, for each of which a codec
takes memory: gigabytes in all. Streams that divide an image so finely are refused.
"""

import struct
from math import ceil
from typing import Final

from services.core.adapters.imaging.codestream import END_OF_IMAGE, Codestream

SIGNATURE: Final = b"\xff\x4f\xff\x51"
SIZE, CODING, COMPONENT_CODING, TILE_PART, DATA = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93
TILE_PART_HEADER_BYTES: Final = 12
MAXIMUM_TILES: Final = 1024
MAXIMUM_TILE_PARTS: Final = 4096
# Exponents of two, as they are coded: code-blocks of 16 x 16 (coded less 2, table A.18), precincts of 32 x 32 (A.21).
LEAST_CODE_BLOCK: Final = 2
LEAST_PRECINCT: Final = 5

Segment = tuple[int, bytes]


def jpeg_2000_header(data: bytes) -> Codestream:
    """The image size of a whole codestream. Raises ValueError or struct.error where it is not one to decode."""
    if not data.startswith(SIGNATURE):
        raise ValueError("does not start like a JPEG 2000 codestream")
    segments, place = _header(data, 2, until=TILE_PART)
    for marker, body in segments:
        if marker == CODING:
            _check_coding(body)
        elif marker == COMPONENT_CODING:
            raise ValueError("codes a component differently")
    _check_tile_parts(data, place)
    return _size(segments[0][1])


def _header(data: bytes, place: int, *, until: int) -> tuple[list[Segment], int]:
    """The marker segments from `place` to the marker `until`, and where that is."""
    segments: list[Segment] = []
    while True:
        (marker,) = struct.unpack_from(">H", data, place)
        if marker == until:
            return segments, place
        (length,) = struct.unpack_from(">H", data, place + 2)
        segments.append((marker, data[place + 4 : place + 2 + length]))
        place += 2 + length


def _size(body: bytes) -> Codestream:
    """A.5.1."""
    right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top = struct.unpack_from(">8I", body, 2)
    components, depth, step_x, step_y = struct.unpack_from(">H3B", body, 34)
    if (step_x, step_y) != (1, 1):
        raise ValueError("is subsampled")
    tiles = ceil((right - tiles_left) / tile_width) * ceil((bottom - tiles_top) / tile_height)
    if not 1 <= tiles <= MAXIMUM_TILES:
        raise ValueError("has more tiles than any radiograph needs")
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1)


def _check_coding(body: bytes) -> None:
    """A.6.1."""
    style, levels, *code_block = struct.unpack_from(">B4x3B", body)
    if min(code_block) < LEAST_CODE_BLOCK:
        raise ValueError("has smaller code-blocks than any radiograph needs")
    precincts = body[10 : 11 + levels] if style & 1 else b""
    if any(min(size & 0x0F, size >> 4) < LEAST_PRECINCT for size in precincts):
        raise ValueError("has smaller precincts than any radiograph needs")


def _check_tile_parts(data: bytes, place: int) -> None:
    """Walk the tile-parts (A.4.2) to the end of the stream; none may code its tile differently."""
    for _ in range(MAXIMUM_TILE_PARTS):
        if data.startswith(END_OF_IMAGE, place):
            return
        marker, length = struct.unpack_from(">H4xI", data, place)
        if marker != TILE_PART:
            raise ValueError("has a damaged tile-part")
        segments, start = _header(data, place + TILE_PART_HEADER_BYTES, until=DATA)
        if any(kind in {CODING, COMPONENT_CODING} for kind, _ in segments):
            raise ValueError("codes a tile differently")
        place = place + length if length else data.rfind(END_OF_IMAGE)
        if place <= start:
            raise ValueError("has a tile-part that ends before its data")
    raise ValueError("has more tile-parts than any radiograph needs")
