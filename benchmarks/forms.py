"""Writes one radiograph in the forms that a hospital may send it in: JPEG, PNG, and DICOM of several kinds."""

import csv
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from benchmarks.cases import read_grey8

BITS: Final = 12


def write_forms(data: Path, out: Path, *, limit: int | None = None) -> Path:
    """Every larger radiograph that has a size, as ID-FORM.*, into `out`; returns the CSV with the JPEGs' true sizes."""
    rsna = data / "rsna-bone-age"
    with (rsna / "image-size.csv").open(newline="") as file:
        sizes = {row["id"]: row for row in csv.DictReader(file)}
    stored = {
        path: rsna / "boneage-training-dataset" / f"{path.stem}.jpg" for path in data.glob("larger-radiographs/*/*.png")
    }
    usable = sorted(path for path in stored if path.stem in sizes and stored[path].exists())
    rows = ["id,height,width"]
    for path in usable[:limit]:
        rows.append(f"{path.stem}-stored,{sizes[path.stem]['height']},{sizes[path.stem]['width']}")
        shutil.copy(stored[path], out / f"{path.stem}-stored.jpg")
        shutil.copy(path, out / f"{path.stem}-larger.png")
        image = read_grey8(path) / 255
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            for window in (False, True):
                name = f"{path.stem}-{photometric.lower()}{'-window' if window else ''}.dcm"
                dataset = dicom_image(image, photometric=photometric, window=window)
                dataset.save_as(out / name, enforce_file_format=True)
    table = out / "sizes.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def dicom_image(
    image: NDArray[np.floating], *, photometric: str = "MONOCHROME2", window: bool = False, bits: int = BITS
) -> Dataset:
    """A DICOM image of (H, W) in [0, 1], dense being bright on the screen in either photometric."""
    levels = 2**bits - 1
    stored = np.rint(image * levels).astype(np.uint16)
    if photometric == "MONOCHROME1":
        stored = levels - stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "DX", "FORM", "FORM"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    if window:
        low, high = np.percentile(stored, (0.1, 99.9))
        dataset.WindowCenter, dataset.WindowWidth = str(round((low + high) / 2)), str(round(high - low))
    dataset.PixelData = stored.tobytes()
    return dataset
