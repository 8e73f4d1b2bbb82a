"""Draws small radiographs and writes them as DICOM, PNG and JPEG files in every form that is read."""

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

Stored = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int8] | NDArray[np.int16]

STUDY_UID: Final = "1.2.826.0.1.3680043.8.498.1"
PATIENT_NAME: Final = "Secret^Patient"
# Compressed syntaxes that lose nothing and can be written here, each with its encoder.
LOSSLESS: Final = (uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless)
NATIVE: Final = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)


def drawn_hand(height: int = 96, width: int = 72, *, bits: int = 12, seed: int = 0) -> NDArray[np.uint16]:
    """A palm with five fingers, bright on dark, with noise: (height, width) whole numbers of `bits` bits."""
    canvas = np.full((height, width), 0.08, np.float32)
    palm = (width // 2, int(height * 0.7))
    cv2.ellipse(canvas, palm, (int(width * 0.26), int(height * 0.2)), 0, 0, 360, 0.7, -1)
    for place in np.linspace(0.2, 0.8, 5):
        tip = (int(width * place), int(height * (0.15 + abs(place - 0.5) * 0.6)))
        cv2.line(canvas, palm, tip, 0.85, max(1, width // 14))
    noise = np.random.default_rng(seed).normal(0, 0.01, canvas.shape)
    levels = np.clip(cv2.GaussianBlur(canvas, (0, 0), 1.0) + noise, 0, 1)
    return np.asarray(np.rint(levels * ((1 << bits) - 1)), np.uint16)


def dicom_file(
    pixels: Stored,
    *,
    syntax: UID = uid.ExplicitVRLittleEndian,
    bits_stored: int = 12,
    photometric: str = "MONOCHROME2",
    pixel_data: bytes | None = None,
    elements: Mapping[str, Any] | None = None,
) -> bytes:
    """A DICOM file of `pixels` (H, W) with a patient's name in it; `elements` are set last, by keyword.

    `pixel_data` stands in for the pixels' own encoding, to write what does not fit the header.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{STUDY_UID}.1")
    dataset.PatientName = PATIENT_NAME
    dataset.PatientSex = "F"
    dataset.StudyInstanceUID = STUDY_UID
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    _set_pixels(dataset, pixels, pixel_data)
    for keyword, value in (elements or {}).items():
        setattr(dataset, keyword, value)
    return written(dataset)


def written(dataset: Dataset) -> bytes:
    """A data set with its file meta information as the bytes of a file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _set_pixels(dataset: Dataset, pixels: Stored, pixel_data: bytes | None) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    stored = pixels if syntax.is_little_endian else pixels.byteswap()
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    if pixel_data is not None:
        dataset.PixelData = pixel_data
    elif syntax in {uid.JPEGLossless, uid.JPEGLosslessSV1}:
        predictor = 1 if syntax == uid.JPEGLosslessSV1 else 6
        dataset.PixelData = encapsulate([lossless_jpeg(pixels, bits=dataset.BitsStored, predictor=predictor)])
    elif syntax == uid.JPEGBaseline8Bit:
        dataset.PixelData = encapsulate([jpeg_file(pixels)])
    elif syntax.is_compressed and not syntax.is_deflated:
        options: dict[str, Any] = {"j2k_cr": [8.0]} if syntax == uid.JPEG2000 else {}
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.compress(syntax, generate_instance_uid=False, **options)
    dataset["PixelData"].is_undefined_length = syntax.is_encapsulated


def look_up_table(entries: Sequence[int], *, first: int = 0, bits: int = 16) -> list[Dataset]:
    """A sequence with one look-up table (PS3.3 C.11.1.1, C.11.2.1.1)."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    item.add_new("LUTExplanation", "LO", "test")
    return [item]


def png_file(pixels: NDArray[np.integer[Any]]) -> bytes:
    """A PNG file of (H, W) or (H, W, C) pixels, 8 or 16 bit."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpeg_file(pixels: NDArray[np.integer[Any]], *, quality: int = 95) -> bytes:
    """A baseline JPEG file of (H, W) or (H, W, 3) 8-bit pixels."""
    return cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()


def lossless_jpeg(pixels: Stored, *, bits: int, predictor: int) -> bytes:
    """A lossless JPEG stream (T.81 annex H) of (H, W) unsigned pixels; each difference class has a code of 5 bits."""
    differences = _differences(pixels.astype(np.int64), bits, predictor)
    classes = np.array([int(abs(value)).bit_length() for value in differences])
    extra = np.where(differences < 0, differences + (1 << classes) - 1, differences)
    coded = "".join(
        f"{kind:05b}" + (f"{value:0{kind}b}" if 0 < kind < 16 else "")
        for kind, value in zip(classes, extra, strict=True)
    )
    coded += "1" * (-len(coded) % 8)
    scan = int(coded, 2).to_bytes(len(coded) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = bytes([0]) + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xC3, struct.pack(">BHHB3B", bits, *pixels.shape, 1, 1, 0x11, 0)),
            _segment(0xC4, table),
            _segment(0xDA, bytes([1, 1, 0, predictor, 0, 0])),
            scan,
            b"\xff\xd9",
        )
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _differences(image: NDArray[np.int64], bits: int, predictor: int) -> NDArray[np.int64]:
    """Each pixel less its prediction (T.81 table H.1), modulo 2 ** 16, row by row."""
    left, above, corner = (np.zeros_like(image) for _ in range(3))
    left[:, 1:], above[1:], corner[1:, 1:] = image[:, :-1], image[:-1], image[:-1, :-1]
    predicted = {
        1: left,
        2: above,
        3: corner,
        4: left + above - corner,
        5: left + ((above - corner) >> 1),
        6: above + ((left - corner) >> 1),
        7: (left + above) >> 1,
    }[predictor]
    # The first row and column have but one neighbour, the first pixel none (T.81 H.1.2.1).
    predicted[0], predicted[1:, 0] = left[0], above[1:, 0]
    predicted[0, 0] = 1 << (bits - 1)
    return np.asarray((image - predicted + 2**15) % 2**16 - 2**15).ravel()
