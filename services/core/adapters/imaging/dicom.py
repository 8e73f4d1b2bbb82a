"""Reads a DICOM file (PS3.10) of one grey frame: its header is judged first, its pixels are decoded after."""

from collections.abc import Mapping
from typing import Final

from pydicom.dataset import Dataset

from services.core.adapters.imaging.decoded import Decoded
from services.core.adapters.imaging.dicom_file import DicomFile, read_dicom_file
from services.core.adapters.imaging.dicom_values import FIELD, integer, reading, text
from services.core.adapters.imaging.grey_levels import apply_table, grey_table
from services.core.adapters.imaging.limits import Limits
from services.core.adapters.imaging.stored_pixels import PixelLayout, read_codes
from services.core.domain.contracts import Sex
from services.core.errors import InvalidRadiographError, UnsupportedFormatError

SEXES: Final[Mapping[str, Sex]] = {"M": "male", "F": "female"}
MONOCHROME: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
BITS_ALLOCATED: Final = (8, 16)
LEAST_BITS_STORED: Final = 8
OTHER_PIXELS: Final = ("FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL")


def decode_dicom(data: bytes, *, limits: Limits) -> Decoded:
    """Read a DICOM file: modality LUT, VOI LUT or window, MONOCHROME1 inverted.

    Raises InvalidRadiographError for a damaged file or header, UnsupportedFormatError for colour, several frames and
    other transfer syntaxes, ImageTooLargeError. No error's text holds what the header says of the patient.
    """
    limits.check_bytes(len(data), field=FIELD)
    file = read_dicom_file(data, maximum_bytes=limits.maximum_bytes)
    with reading("the DICOM header is damaged"):
        layout = pixel_layout(file.dataset)
        limits.check_size(layout.rows, layout.columns, field=FIELD)
    with reading("its pixel data are damaged"):
        codes = read_codes(file, layout)
    with reading("the DICOM header's grey scale is damaged"):
        table = grey_table(file.dataset, layout, codes)
        return Decoded(apply_table(table, codes), _sex(file), text(file.dataset, "StudyInstanceUID") or None)


def pixel_layout(dataset: Dataset) -> PixelLayout:
    """How the pixels are stored (PS3.3 C.7.6.3). Raises UnsupportedFormatError for what is not one grey frame."""
    if "PixelData" not in dataset:
        _refuse_without_pixels(dataset)
    frames = integer(dataset, "NumberOfFrames", default=1)
    if frames != 1:
        raise UnsupportedFormatError(f"holds {frames} frames: a radiograph is one", field=FIELD)
    samples = integer(dataset, "SamplesPerPixel", default=1)
    if samples != 1 or text(dataset, "PhotometricInterpretation") not in MONOCHROME:
        raise UnsupportedFormatError("is not MONOCHROME1 or MONOCHROME2 with one sample per pixel", field=FIELD)
    allocated = integer(dataset, "BitsAllocated")
    stored = integer(dataset, "BitsStored", default=allocated)
    high = integer(dataset, "HighBit", default=stored - 1)
    if allocated not in BITS_ALLOCATED or not LEAST_BITS_STORED <= stored <= high + 1 <= allocated:
        raise UnsupportedFormatError(
            f"{stored} bits stored up to bit {high} of {allocated} are not read: 8 to 16 stored in 8 or 16 are",
            field=FIELD,
        )
    return PixelLayout(
        rows=integer(dataset, "Rows"),
        columns=integer(dataset, "Columns"),
        bits_allocated=allocated,
        bits_stored=stored,
        shift=high + 1 - stored,
        signed=integer(dataset, "PixelRepresentation", default=0) == 1,
    )


def _refuse_without_pixels(dataset: Dataset) -> None:
    if any(keyword in dataset for keyword in OTHER_PIXELS):
        raise UnsupportedFormatError("its pixels are floating point or elsewhere, which is not read", field=FIELD)
    raise InvalidRadiographError("holds no pixel data, or ends before them", field=FIELD)


def _sex(file: DicomFile) -> Sex | None:
    return SEXES.get(text(file.dataset, "PatientSex").upper())
