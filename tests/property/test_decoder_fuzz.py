"""Mutated files: whatever bytes come, decoding gives grey levels in [0, 1] or an error of our own tree."""

import struct
import time
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from services.core.adapters.imaging import Decoded, Limits, decode_dicom, decode_encoded, decode_raw
from services.core.errors import InvalidRadiographError
from tests.radiographs import (
    LOSSLESS,
    NATIVE,
    PATIENT_NAME,
    dicom_file,
    drawn_hand,
    jpeg_file,
    look_up_table,
    png_file,
)

LIMITS = Limits(maximum_pixels=1_000_000, maximum_bytes=2**20)
TIME_LIMIT_S = 2.0
HEADER_BYTES = 1200
RADIOGRAPH = drawn_hand(48, 40)
RADIOGRAPH_8_BIT = drawn_hand(48, 40, bits=8).astype(np.uint8)
LUTS = {"ModalityLUTSequence": look_up_table(range(4096)), "VOILUTSequence": look_up_table(range(4096))}
GREY_SCALE = {
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
    "WindowCenter": 2048,
    "WindowWidth": 4096,
    "PixelPaddingValue": 0,
}

DICOM_FILES = [
    *(dicom_file(RADIOGRAPH, syntax=syntax) for syntax in (*NATIVE, *LOSSLESS, uid.JPEG2000)),
    dicom_file(RADIOGRAPH_8_BIT, syntax=uid.JPEGBaseline8Bit, bits_stored=8),
    dicom_file(RADIOGRAPH, elements=LUTS),
    dicom_file(RADIOGRAPH, elements=GREY_SCALE, photometric="MONOCHROME1"),
]
PICTURES = [
    png_file(RADIOGRAPH_8_BIT),
    png_file(RADIOGRAPH),
    png_file(np.dstack([RADIOGRAPH_8_BIT] * 3)),
    jpeg_file(RADIOGRAPH_8_BIT),
]

# Lengths at their ends, and types of DICOM values that are parsed each in its own way.
TELLING = [
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\x7f",
    b"UL",
    b"US",
    b"FD",
    b"SQ",
    b"UN",
    b"OB",
    b"PN",
    b"AT",
]

fuzzing = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def mutated(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """One of the files with a few places overwritten, taken out, repeated or filled in, or with its end cut off."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        # Half of the places lie in the header, where a byte matters most.
        last = len(data) if draw(st.booleans()) else min(len(data), HEADER_BYTES)
        place = draw(st.integers(0, last))
        piece = draw(st.binary(max_size=8) | st.sampled_from(TELLING))
        length = draw(st.sampled_from([0, 0, 1, 8, 200]))
        change = draw(st.sampled_from(["overwrite", "replace", "repeat", "cut"]))
        if change == "overwrite":
            data[place : place + len(piece)] = piece
        elif change == "replace":
            data[place : place + length] = piece
        elif change == "repeat":
            data[place:place] = data[place : place + length]
        else:
            del data[place + length :]
    return bytes(data)


def check(decode: Callable[[], Decoded], field: str) -> None:
    """Decode within the time, to grey levels or to an error that names the field and not the patient."""
    started = time.process_time()
    outcome = outcome_of(decode)
    assert time.process_time() - started < TIME_LIMIT_S
    if isinstance(outcome, InvalidRadiographError):
        assert outcome.field.startswith(field)
        assert not any(name in str(outcome) for name in PATIENT_NAME.split("^"))
    else:
        assert outcome.pixels.dtype == np.float32
        assert outcome.pixels.ndim == 2
        assert 0 <= outcome.pixels.min() <= outcome.pixels.max() <= 1


def outcome_of(decode: Callable[[], Decoded]) -> Decoded | InvalidRadiographError:
    """What is decoded, or the error of our tree; any other error fails the test."""
    try:
        return decode()
    except InvalidRadiographError as error:
        return error


@fuzzing
@given(mutated(DICOM_FILES))
def test_mutated_dicom_files_are_read_or_refused(data):
    """No bytes make the DICOM decoder do anything else."""
    check(lambda: decode_dicom(data, limits=LIMITS), "radiograph.dicom")


@fuzzing
@given(mutated(PICTURES))
def test_mutated_pictures_are_read_or_refused(data):
    """No bytes make the PNG and JPEG decoder do anything else."""
    check(lambda: decode_encoded(data, limits=LIMITS), "radiograph.encoded")


@fuzzing
@given(mutated(PICTURES[:3]))
def test_mutated_pngs_with_right_sums_are_read_or_refused(data):
    """Damage that the sums do not show is left to the codec, and still does no harm."""
    check(lambda: decode_encoded(resummed(data), limits=LIMITS), "radiograph.encoded")


@fuzzing
@given(st.binary(max_size=600))
def test_any_bytes_after_a_sound_beginning_are_read_or_refused(tail):
    """A file may start like one of each kind and go on with anything."""
    for data in DICOM_FILES:
        check(partial(decode_dicom, data[:360] + tail, limits=LIMITS), "radiograph.dicom")
    for data in PICTURES:
        check(partial(decode_encoded, data[:16] + tail, limits=LIMITS), "radiograph.encoded")


@fuzzing
@given(
    data=st.binary(max_size=256),
    height=st.integers(0, 70_000),
    width=st.integers(0, 70_000),
    kind=st.sampled_from(["uint8", "uint16", "float32", "other"]),
)
def test_any_raw_pixels_are_read_or_refused(data, height, width, kind):
    """No size, type and bytes make the reader of raw pixels do anything else."""
    check(lambda: decode_raw(data, height=height, width=width, pixel_format=kind, limits=LIMITS), "radiograph.raw")


@fuzzing
@given(st.data())
def test_raw_pixels_that_fit_are_read(data):
    """Every byte string of the right length is an image of whole numbers."""
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    stored = data.draw(st.binary(min_size=height * width * 2, max_size=height * width * 2))
    pixels = decode_raw(stored, height=height, width=width, pixel_format="uint16", limits=LIMITS).pixels
    np.testing.assert_allclose(pixels.ravel(), np.frombuffer(stored, "<u2") / 65535, atol=1e-6)


def resummed(data: bytes) -> bytes:
    """The chunks of a PNG file with right sums, up to the first that is not whole."""
    whole, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + length]
        if len(body) < length + 4:
            break
        whole += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(whole)


@pytest.mark.parametrize("data", [*DICOM_FILES, *PICTURES])
def test_the_files_that_are_mutated_are_sound(data):
    """Fuzzing starts from files that are read."""
    decode = decode_dicom if data[128:132] == b"DICM" else decode_encoded
    assert decode(data, limits=LIMITS).pixels.shape == RADIOGRAPH.shape
