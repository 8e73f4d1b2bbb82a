"""Decodes RLE Lossless frames (PS3.5 annex G), never to more bytes than the image has.

Written here because a run of two bytes stands for up to 128: the codecs at hand decode a segment to its end before they
look at its length, or panic where it is too long.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTHING, LONGEST_LITERAL, LONGEST_RUN = 128, 127, 257


def decode_rle(frame: bytes, *, rows: int, columns: int, bytes_per_pixel: int) -> NDArray[np.unsignedinteger[Any]]:
    """One grey frame as (rows, columns) unsigned pixels. Raises ValueError or struct.error for a damaged one."""
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != bytes_per_pixel:
        raise ValueError(f"has {count} segments, not {bytes_per_pixel}")
    ends = [*offsets[1:count], len(frame)]
    planes = [_segment(frame[start:end], rows * columns) for start, end in zip(offsets, ends, strict=False)]
    # One segment a byte, the most significant first (G.2).
    pixels = np.empty((rows, columns), f"<u{bytes_per_pixel}")
    for place, plane in zip(reversed(range(bytes_per_pixel)), planes, strict=True):
        pixels.view(np.uint8).reshape(rows * columns, bytes_per_pixel)[:, place] = np.frombuffer(plane, np.uint8)
    return pixels


def _segment(coded: bytes, size: int) -> bytearray:
    """The first `size` bytes that a segment stands for (G.3.2); a pad byte may follow them."""
    decoded = bytearray()
    place = 0
    while len(decoded) < size and place < len(coded):
        control = coded[place]
        if control <= LONGEST_LITERAL:
            decoded += coded[place + 1 : place + 2 + control]
            place += 2 + control
        elif control > NOTHING:
            decoded += coded[place + 1 : place + 2] * (LONGEST_RUN - control)
            place += 2
        else:
            place += 1
    if len(decoded) != size:
        raise ValueError(f"has a segment of {len(decoded)} bytes, not {size}")
    return decoded
