"""Masks in the run-length code that Label Studio keeps brush strokes in.

A stream of bits, highest first: 32 bits, how many values there are; 5, a value's width less one; four times 4, the
widths of run lengths less one. Then runs until all values are there: 1 bit, whether one value is repeated (1) or each
is written out (0); 2 bits, which of the four widths the length has; the length less one; the value, or the values. The
values are the picture as RGBA, row by row: what has alpha above 127 is covered.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
VALUE_BITS: Final = 8
LENGTH_BITS: Final = (3, 8, 12, 16)
CHANNELS: Final = 4


def encode_mask(mask: Mask) -> list[int]:
    """Bytes of a mask (H, W)."""
    flat = mask.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    ends = [0, *(int(change) for change in changes), flat.size]
    bits = [f"{flat.size * CHANNELS:032b}", f"{VALUE_BITS - 1:05b}", *(f"{width - 1:04b}" for width in LENGTH_BITS)]
    for start, end in pairwise(ends):
        value = f"{255 if flat[start] else 0:0{VALUE_BITS}b}"
        for length in _parts((end - start) * CHANNELS, 2 ** LENGTH_BITS[-1]):
            place = next(i for i, width in enumerate(LENGTH_BITS) if length <= 2**width)
            bits.append(f"1{place:02b}{length - 1:0{LENGTH_BITS[place]}b}{value}")
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


def decode_mask(code: Sequence[int], *, height: int, width: int) -> Mask:
    """The mask (height, width) of bytes. Raises ValueError where they are none of this size."""
    try:
        stream = "".join(f"{byte:08b}" for byte in bytes(code))
    except (TypeError, ValueError) as error:
        raise ValueError("the code of a mask is not a list of bytes") from error
    place = 0

    def number(bits: int) -> int:
        nonlocal place
        if place + bits > len(stream):
            raise ValueError("the code of a mask ends before its last pixel")
        place += bits
        return int(stream[place - bits : place], 2)

    count = number(32)
    if count != height * width * CHANNELS:
        raise ValueError(f"the code of a mask holds {count} values, not {height} x {width} x {CHANNELS}")
    value_bits = number(5) + 1
    length_bits = [number(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint32)
    done = 0
    while done < count:
        repeated, chosen = number(1), number(2)
        end = min(done + number(length_bits[chosen]) + 1, count)
        values[done:end] = number(value_bits) if repeated else [number(value_bits) for _ in range(end - done)]
        done = end
    alpha = values.reshape(height, width, CHANNELS)[..., CHANNELS - 1]
    return np.asarray(alpha > (2**value_bits - 1) // 2, np.bool_)


def _parts(length: int, largest: int) -> Iterator[int]:
    while length > 0:
        yield min(length, largest)
        length -= largest
