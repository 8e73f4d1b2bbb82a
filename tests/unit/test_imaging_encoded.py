"""What PNG, JPEG and raw pixels show, and what is refused of them."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from services.core.adapters.imaging import Limits, decode_encoded, decode_raw
from services.core.errors import ImageTooLargeError, InvalidRadiographError, UnsupportedFormatError
from tests.radiographs import drawn_hand, jpeg_file, png_file

LIMITS = Limits()


def hand8():
    """The drawn hand in 8 bits."""
    return drawn_hand(bits=8).astype(np.uint8)


def colour(hand):
    """The same levels in three channels."""
    return np.dstack([hand, hand, hand])


def test_png_is_read_exactly():
    """8 and 16-bit PNG files give the shares of their greatest value."""
    hand = drawn_hand(bits=16)
    np.testing.assert_allclose(decode_encoded(png_file(hand), limits=LIMITS).pixels, hand / 65535, atol=1e-6)
    np.testing.assert_allclose(decode_encoded(png_file(hand8()), limits=LIMITS).pixels, hand8() / 255, atol=1e-6)


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)], ids=["baseline", "progressive"])
def test_jpeg_is_read_closely(options):
    """JPEG files give their grey levels, baseline or progressive, and say nothing of the patient."""
    data = cv2.imencode(".jpg", hand8(), options)[1].tobytes()
    decoded = decode_encoded(data, limits=LIMITS)
    assert np.abs(decoded.pixels - hand8() / 255).mean() < 0.01
    assert decoded.pixels.dtype == np.float32
    assert decoded.sex is None
    assert decoded.study_uid_hash_key is None


def test_a_jpeg_is_turned_as_its_exif_says():
    """A file that says it lies on its side is read as it is meant to be seen."""
    turn = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = jpeg_file(hand8())
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(turn) + 2) + turn + data[2:]
    found = decode_encoded(turned, limits=LIMITS).pixels
    assert np.array_equal(found, np.rot90(decode_encoded(data, limits=LIMITS).pixels, -1))


def test_grey_saved_as_colour_is_grey():
    """Three equal channels, and an opaque alpha, are one channel."""
    opaque = np.dstack([colour(hand8()), np.full(hand8().shape, 255, np.uint8)])
    for data in (png_file(colour(hand8())), png_file(opaque), jpeg_file(colour(hand8()), quality=100)):
        np.testing.assert_allclose(decode_encoded(data, limits=LIMITS).pixels, hand8() / 255, atol=0.01)
    deep = png_file(colour(drawn_hand(bits=16)))
    np.testing.assert_allclose(decode_encoded(deep, limits=LIMITS).pixels, drawn_hand(bits=16) / 65535, atol=1e-6)


@pytest.mark.parametrize("write", [png_file, jpeg_file])
def test_a_colour_photograph_is_refused(write):
    """A picture whose channels differ is no radiograph."""
    photograph = colour(hand8())
    photograph[..., 0] = photograph[..., 0] // 2
    with pytest.raises(UnsupportedFormatError, match="colour") as refused:
        decode_encoded(write(photograph), limits=LIMITS)
    assert refused.value.field == "radiograph.encoded"


def test_transparency_is_refused():
    """What is seen through a transparent pixel is not in the file."""
    alpha = np.full(hand8().shape, 255, np.uint8)
    alpha[3, 4] = 254
    with pytest.raises(UnsupportedFormatError, match="transparent"):
        decode_encoded(png_file(np.dstack([colour(hand8()), alpha])), limits=LIMITS)


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp"])
def test_other_formats_are_refused(suffix):
    """Only PNG and JPEG are read."""
    data = cv2.imencode(suffix, hand8())[1].tobytes()
    with pytest.raises(UnsupportedFormatError, match="neither a PNG nor a JPEG"):
        decode_encoded(data, limits=LIMITS)


@pytest.mark.parametrize("write", [png_file, jpeg_file])
def test_a_file_cut_short_anywhere_is_refused(write):
    """Half a radiograph is not read as a whole one."""
    data = write(hand8())
    for length in range(0, len(data), max(1, len(data) // 97)):
        with pytest.raises(InvalidRadiographError):
            decode_encoded(data[:length], limits=LIMITS)


def test_a_png_with_a_wrong_sum_is_refused():
    """Damage inside a chunk is seen by its sum."""
    data = bytearray(png_file(hand8()))
    data[len(data) // 2] ^= 1
    with pytest.raises(InvalidRadiographError, match="sum is wrong"):
        decode_encoded(bytes(data), limits=LIMITS)


def test_a_jpeg_that_takes_many_passes_is_refused():
    """A progressive file with thousands of scans is a bomb, not a picture."""
    data = cv2.imencode(".jpg", hand8(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1].tobytes()
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidRadiographError, match="scans"):
        decode_encoded(data[:scan] + data[scan:-2] * 1000 + data[-2:], limits=LIMITS)


@pytest.mark.parametrize(("height", "width"), [(20_000, 20_000), (1, 16_385), (8_000, 5_001)])
def test_more_pixels_than_the_limit_are_refused_by_the_header(height, width):
    """A header that declares too much is enough: the pixels need not be there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")))
    jpeg = bytearray(jpeg_file(hand8()))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, height, width)
    for data in (png, bytes(jpeg)):
        with pytest.raises(ImageTooLargeError, match=f"{height} x {width}"):
            decode_encoded(data, limits=LIMITS)


def test_more_bytes_than_the_limit_are_refused():
    """A file is refused by its length before anything in it is looked at."""
    with pytest.raises(ImageTooLargeError, match="101 bytes"):
        decode_encoded(bytes(101), limits=Limits(maximum_bytes=100))


def test_one_pixel_is_an_image():
    """One pixel can be read; whether it shows a hand is not decided here."""
    assert decode_encoded(png_file(np.array([[255]], np.uint8)), limits=LIMITS).pixels.tolist() == [[1.0]]


@pytest.mark.parametrize(("name", "greatest"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_raw_pixels_are_read_as_they_are(name, greatest):
    """Raw pixels of each type come out as shares of the greatest value."""
    expected = drawn_hand(bits=8) / np.float32(255)
    stored = (expected * greatest).astype(np.dtype(name).newbyteorder("<"))
    decoded = decode_raw(stored.tobytes(), height=96, width=72, pixel_format=name, limits=LIMITS)
    np.testing.assert_allclose(decoded.pixels, expected, atol=1 / 255)
    assert decoded.pixels.dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01])
def test_raw_values_that_are_no_grey_levels_are_refused(value):
    """NaN, infinity and values outside [0, 1] are named as such."""
    stored = np.full((4, 4), 0.5, np.float32)
    stored[2, 1] = value
    with pytest.raises(InvalidRadiographError, match=r"not in \[0, 1\]") as refused:
        decode_raw(stored.tobytes(), height=4, width=4, pixel_format="float32", limits=LIMITS)
    assert refused.value.field == "radiograph.raw.data"


@pytest.mark.parametrize("count", [0, 15, 17, 32])
def test_a_wrong_byte_count_is_refused(count):
    """The size must account for every byte."""
    with pytest.raises(InvalidRadiographError, match=f"take 16 bytes, not {count}"):
        decode_raw(bytes(count), height=4, width=4, pixel_format="uint8", limits=LIMITS)


@pytest.mark.parametrize(
    ("height", "width", "kind", "error", "field"),
    [
        (0, 4, "uint8", InvalidRadiographError, "radiograph.raw.size"),
        (20_000, 20_000, "uint8", ImageTooLargeError, "radiograph.raw.size"),
        (4, 4, "float64", UnsupportedFormatError, "radiograph.raw.format"),
    ],
)
def test_raw_sizes_and_types_are_checked(height, width, kind, error, field):
    """What is wrong with raw pixels is said with its field."""
    with pytest.raises(error) as refused:
        decode_raw(b"", height=height, width=width, pixel_format=kind, limits=LIMITS)
    assert refused.value.field == field


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
