"""Decodes the one frame of a DICOM file to its stored values, after what the codestream declares has been compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from services.core.adapters.imaging.codestream import Codestream, judging
from services.core.adapters.imaging.dicom_file import PLUGINS, DicomFile
from services.core.adapters.imaging.dicom_values import FIELD, reading
from services.core.adapters.imaging.jpeg import BASELINE, EXTENDED, JPEG_LS, LOSSLESS, jpeg_header
from services.core.adapters.imaging.jpeg_2000 import jpeg_2000_header
from services.core.adapters.imaging.rle import decode_rle
from services.core.errors import InvalidRadiographError

Codes = NDArray[np.unsignedinteger[Any]]

ITEM: Final = b"\xfe\xff\x00\xe0"
ITEM_HEADER_BYTES: Final = 8
BYTE_BITS: Final = 8
MAXIMUM_FRAGMENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How pixels are stored (PS3.3 C.7.6.3, PS3.5 8.1.1): `bits_stored` bits from bit `shift` on."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    shift: int
    signed: bool

    @property
    def mask(self) -> int:
        """All bits of a stored value set."""
        return (1 << self.bits_stored) - 1


@dataclass(frozen=True, slots=True)
class Coding:
    """How a compressed syntax's header is read, and which frames of JPEG it may hold (0: JPEG 2000)."""

    header: Callable[[bytes], Codestream]
    frames: frozenset[int]


CODINGS: Final[Mapping[UID, Coding]] = {
    uid.JPEGBaseline8Bit: Coding(jpeg_header, frozenset({BASELINE})),
    uid.JPEGExtended12Bit: Coding(jpeg_header, frozenset({BASELINE, EXTENDED})),
    uid.JPEGLossless: Coding(jpeg_header, frozenset({LOSSLESS})),
    uid.JPEGLosslessSV1: Coding(jpeg_header, frozenset({LOSSLESS})),
    uid.JPEGLSLossless: Coding(jpeg_header, frozenset({JPEG_LS})),
    uid.JPEGLSNearLossless: Coding(jpeg_header, frozenset({JPEG_LS})),
    uid.JPEG2000Lossless: Coding(jpeg_2000_header, frozenset({0})),
    uid.JPEG2000: Coding(jpeg_2000_header, frozenset({0})),
}


def read_codes(file: DicomFile, layout: PixelLayout) -> Codes:
    """The stored values (rows, columns) as bit patterns of `bits_stored` bits; a negative one has its top bit set.

    Raises InvalidRadiographError where the pixel data are not what the header says, or cannot be decoded.
    """
    patterns = _compressed(file, layout) if file.transfer_syntax.is_encapsulated else _native(file, layout)
    codes: Codes = np.asarray(patterns >> layout.shift) if layout.shift else patterns
    spare = codes.dtype.itemsize * BYTE_BITS > layout.bits_stored
    return np.asarray(codes & codes.dtype.type(layout.mask)) if spare else codes


def _native(file: DicomFile, layout: PixelLayout) -> Codes:
    element = file.dataset["PixelData"]
    _check_length(len(element.value), layout)
    return _decode(element.value, element.VR, file.transfer_syntax, layout)


def _compressed(file: DicomFile, layout: PixelLayout) -> Codes:
    frame, syntax = single_frame(file.dataset["PixelData"].value), file.transfer_syntax
    if syntax == uid.RLELossless:
        with judging(f"{syntax.name} frame", field=FIELD):
            pixels = decode_rle(
                frame, rows=layout.rows, columns=layout.columns, bytes_per_pixel=layout.bits_allocated // 8
            )
        return as_patterns(pixels)
    found = _checked_codestream(frame, syntax, layout)
    # A codec gives one byte a pixel for up to 8 bits, whatever the header allocated.
    bits = BYTE_BITS if found.precision_bits <= BYTE_BITS else layout.bits_allocated
    held = replace(layout, bits_allocated=bits, bits_stored=min(bits, layout.bits_stored))
    patterns = _decode(encapsulate([frame], has_bot=False), "OB", syntax, held)
    if not layout.signed and int(patterns.max()) >> layout.shift > layout.mask:
        raise InvalidRadiographError(f"stores values of more than {layout.bits_stored} bits", field=FIELD)
    return patterns


def _decode(source: bytes, vr: str, syntax: UID, layout: PixelLayout) -> Codes:
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_vr": vr,
        "correct_unused_bits": False,
    }
    with reading("its pixel data cannot be decoded"):
        pixels, _ = get_decoder(syntax).as_array(source, raw=True, index=0, decoding_plugin=PLUGINS[syntax], **options)
        return as_patterns(pixels.reshape(layout.rows, layout.columns))


def as_patterns(pixels: NDArray[Any]) -> Codes:
    """Whole numbers of any sign and byte order as the bit patterns they are stored in."""
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return np.asarray(native.view(np.dtype(f"u{native.dtype.itemsize}")))


def single_frame(pixel_data: bytes) -> bytes:
    """The one frame in encapsulated pixel data (PS3.5 A.4): all fragments after the offset table, joined."""
    fragments: list[bytes] = []
    place = 0
    while pixel_data.startswith(ITEM, place):
        length = int.from_bytes(pixel_data[place + 4 : place + ITEM_HEADER_BYTES], "little")
        place += ITEM_HEADER_BYTES
        fragments.append(pixel_data[place : place + length])
        place += length
        if place > len(pixel_data) or len(fragments) > MAXIMUM_FRAGMENTS:
            raise InvalidRadiographError("its pixel data are cut short or in too many fragments", field=FIELD)
    if len(fragments) < 2:  # noqa: PLR2004 - the offset table, even an empty one, and a fragment
        raise InvalidRadiographError("its compressed pixel data hold no frame", field=FIELD)
    return b"".join(fragments[1:])


def _check_length(length: int, layout: PixelLayout) -> None:
    """Uncompressed pixel data are padded to an even length (PS3.5 8.1.1), nothing more."""
    expected = layout.rows * layout.columns * layout.bits_allocated // 8
    if length not in {expected, expected + expected % 2}:
        raise InvalidRadiographError(
            f"{layout.rows} x {layout.columns} pixels of {layout.bits_allocated} bits take {expected} bytes, "
            f"not {length}",
            field=FIELD,
        )


def _checked_codestream(frame: bytes, syntax: UID, layout: PixelLayout) -> Codestream:
    """A codec takes memory for what the codestream declares, so that must be what the header declared."""
    coding = CODINGS[syntax]
    with judging(f"{syntax.name} stream", field=FIELD):
        found = coding.header(frame)
    if found.frame not in coding.frames:
        raise InvalidRadiographError(f"its pixel data are not {syntax.name}", field=FIELD)
    if (found.height, found.width, found.components) != (layout.rows, layout.columns, 1):
        raise InvalidRadiographError(
            f"its compressed pixels are {found.height} x {found.width} x {found.components}, "
            f"its header says {layout.rows} x {layout.columns} x 1",
            field=FIELD,
        )
    if not found.precision_bits <= layout.bits_allocated:
        raise InvalidRadiographError(
            f"its compressed pixels have {found.precision_bits} bits, more than the {layout.bits_allocated} allocated",
            field=FIELD,
        )
    return found
