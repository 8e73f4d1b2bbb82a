"""The radiographs that are timed: one hand as a small PNG file and as a large DICOM file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.uid import JPEG2000Lossless

from benchmarks.cases import png
from benchmarks.forms import dicom_image
from boneage.v1 import common_pb2
from services.core.adapters.imaging import Decoded, Limits, decode_dicom, decode_encoded
from services.core.domain.preprocess import Image, resize

LIMITS: Final = Limits()
PNG_PX: Final = 512
DICOM_PX: Final = 1760
GRAIN: Final = 0.0002
PREAMBLE: Final = slice(128, 132)


@dataclass(frozen=True, slots=True)
class Case:
    """One radiograph as a client sends it, and how it is decoded directly."""

    name: str
    radiograph: common_pb2.Radiograph
    decode: Callable[[], Decoded]


def cases_of(file: Path) -> list[Case]:
    """The hand in `file` (DICOM, PNG or JPEG) as `PNG_PX` 8-bit PNG and as `DICOM_PX` 16-bit JPEG 2000 DICOM."""
    data = file.read_bytes()
    decode = decode_dicom if data[PREAMBLE] == b"DICM" else decode_encoded
    pixels = decode(data, limits=LIMITS).pixels
    small = png(np.rint(with_grain(pixels, PNG_PX) * 255).astype(np.uint8))
    large = dicom_file(with_grain(pixels, DICOM_PX))
    return [
        Case("512 px PNG", common_pb2.Radiograph(encoded=small), partial(decode_encoded, small, limits=LIMITS)),
        Case("1760 px DICOM", common_pb2.Radiograph(dicom=large), partial(decode_dicom, large, limits=LIMITS)),
    ]


def with_grain(pixels: Image, long_side_px: int) -> Image:
    """(H, W) in [0, 1] at another size, with a detector's grain: smooth pixels would be decoded too fast."""
    scale = long_side_px / max(pixels.shape)
    image = resize(pixels, height=round(pixels.shape[0] * scale), width=round(pixels.shape[1] * scale))
    grain = np.random.default_rng(0).normal(0, GRAIN, image.shape)
    return np.clip(image + grain, 0, 1).astype(np.float32)


def dicom_file(image: Image) -> bytes:
    """A 16-bit JPEG 2000 DICOM file of (H, W) in [0, 1]."""
    dataset = dicom_image(image, bits=16)
    dataset.compress(JPEG2000Lossless)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
