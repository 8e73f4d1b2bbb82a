"""Writes a phantom as a Digital X-Ray image, in any of several transfer syntaxes, plainly marked as drawn.

DICOM PS3.3 A.26 (Digital X-Ray Image IOD); PS3.5 annex A (transfer syntaxes).
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from training.data.phantom.drawing import Phantom

BITS_STORED: Final = 12
LEVELS: Final = 2**BITS_STORED - 1
COMPRESSED: Final = frozenset({RLELossless, JPEG2000Lossless, JPEGLSLossless})
TRANSFER_SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
)
SAYS_SO: Final = "Drawn phantom, not a radiograph of a person"
FIXED: Final[Mapping[str, object]] = MappingProxyType(
    {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "Modality": "DX",
        "PatientName": "PHANTOM^HAND",
        "StudyDate": "20000101",
        "StudyTime": "000000",
        "ContentDate": "20000101",
        "ContentTime": "000000",
        "PatientBirthDate": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "Manufacturer": "boneage",
        "ManufacturerModelName": "hand phantom",
        "SeriesDescription": SAYS_SO,
        "ImageComments": SAYS_SO,
        "BodyPartExamined": "HAND",
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageType": ["DERIVED", "SECONDARY", ""],
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1,
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY",
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "PatientOrientation": ["", ""],
        "SamplesPerPixel": 1,
        "BitsAllocated": 16,
        "BitsStored": BITS_STORED,
        "HighBit": BITS_STORED - 1,
        "PixelRepresentation": 0,
    }
)


def uid(*parts: object) -> UID:
    """A UID under 2.25 that is always the same for the same parts (PS3.5 B.2)."""
    digest = sha256("/".join(map(str, parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def stored_values(phantom: Phantom, *, photometric: str) -> NDArray[np.uint16]:
    """Stored values (H, W) of 12 bits; MONOCHROME1 stores dense as dark."""
    values = np.rint(phantom.pixels.astype(np.float64) * LEVELS).astype(np.uint16)
    return np.asarray(LEVELS - values if photometric == "MONOCHROME1" else values, np.uint16)


def write_dicom(
    phantom: Phantom, path: Path, *, transfer_syntax: UID, photometric: str, number: int, window: bool = False
) -> None:
    """Write one file; `number` makes the patient and the UIDs, and `window` adds a VOI window over all values."""
    if transfer_syntax not in TRANSFER_SYNTAXES:
        raise ValueError(f"cannot write transfer syntax {transfer_syntax.name}")
    values = stored_values(phantom, photometric=photometric)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if transfer_syntax in COMPRESSED else transfer_syntax
    for keyword, value in FIXED.items():
        setattr(dataset, keyword, value)
    dataset.PatientID = f"PHANTOM-{number:02d}"
    dataset.PatientSex = "M" if phantom.sex == "male" else "F"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study", number), uid("series", number)
    dataset.SOPInstanceUID = uid("instance", number)
    dataset.PhotometricInterpretation = photometric
    dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    dataset.Rows, dataset.Columns = values.shape
    dataset.ImagerPixelSpacing = [f"{phantom.spacing_mm:.5f}"] * 2
    if window:
        dataset.WindowCenter, dataset.WindowWidth = str((LEVELS + 1) // 2), str(LEVELS + 1)
    dataset.PixelData = values.tobytes()
    if transfer_syntax in COMPRESSED:
        dataset.compress(transfer_syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
