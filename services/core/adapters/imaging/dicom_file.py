"""Parses a DICOM file in memory with bounds: on what a deflated file grows to and on how many elements are read."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import UID

from services.core.adapters.imaging.dicom_values import FIELD, reading, text
from services.core.errors import ImageTooLargeError, InvalidRadiographError, UnsupportedFormatError

PREAMBLE_BYTES: Final = 128
PREFIX: Final = b"DICM"
META_GROUP: Final = 0x0002
# A radiograph's header has a few hundred elements, and each takes about two reads.
MAXIMUM_READS: Final = 100_000

# Transfer syntaxes that are read, each with the plugin of pydicom that decodes it, where it is one.
PLUGINS: Final[Mapping[UID, str]] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.RLELossless: "",
    uid.JPEGBaseline8Bit: "pylibjpeg",
    uid.JPEGExtended12Bit: "pylibjpeg",
    uid.JPEGLossless: "pylibjpeg",
    uid.JPEGLosslessSV1: "pylibjpeg",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
}


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A parsed file: its data set, and how its pixels are encoded."""

    dataset: Dataset
    transfer_syntax: UID


class _MeteredBytes(BytesIO):
    """Bytes that refuse to be read in more pieces than any radiograph has."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAXIMUM_READS:
            raise InvalidRadiographError("its header has more elements than any radiograph's", field=FIELD)
        return super().read(size)


def read_dicom_file(data: bytes, *, maximum_bytes: int) -> DicomFile:
    """Parse a DICOM file. Raises InvalidRadiographError, UnsupportedFormatError, ImageTooLargeError."""
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(PREFIX)] != PREFIX:
        raise UnsupportedFormatError("is not a DICOM file: DICM is missing after the first 128 bytes", field=FIELD)
    with reading("the DICOM file is damaged or cut short"):
        source = _MeteredBytes(data)
        read_preamble(source, force=False)
        meta = read_dataset(source, is_implicit_VR=False, is_little_endian=True, stop_when=_after_meta)
        syntax = UID(text(meta, "TransferSyntaxUID"))
        if syntax not in PLUGINS:
            name = syntax.name if syntax.is_transfer_syntax else "unknown"
            raise UnsupportedFormatError(f"its transfer syntax ({name}) is not read", field=FIELD)
        if syntax.is_deflated:
            source = _MeteredBytes(_inflate(data[source.tell() :], maximum_bytes))
        return DicomFile(read_dataset(source, syntax.is_implicit_VR, syntax.is_little_endian), syntax)


def _after_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != META_GROUP


def _inflate(body: bytes, maximum_bytes: int) -> bytes:
    """The data set of a deflated file (PS3.5 A.5), which may be small and hold gigabytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(body, maximum_bytes)
    if inflater.unconsumed_tail:
        raise ImageTooLargeError(f"inflates to more than the limit of {maximum_bytes} bytes", field=FIELD)
    if not inflater.eof:
        raise InvalidRadiographError("the deflated data set is cut short", field=FIELD)
    return inflated
