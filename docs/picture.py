"""Draws the README's picture from one sample: `python docs/picture.py [FILE]` reads it through the real services."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.adapters.imaging import Limits, decode_dicom

Picture = NDArray[np.uint8]

ROOT: Final = Path(__file__).parents[1]
SAMPLE: Final = ROOT / "deploy" / "samples" / "phantom-05.dcm"
TARGET: Final = ROOT / "docs" / "picture.png"
HEIGHT_PX: Final = 420
TITLE_PX: Final = 44
GAP_PX: Final = 12
OUTLINE_BGR: Final = (90, 200, 255)
FONT: Final = cv2.FONT_HERSHEY_DUPLEX


def read(file: Path, artifacts: Path) -> dict[str, Any]:
    """The record of one file; its pictures are in `artifacts`."""
    command = [sys.executable, "-m", "services.cli", "assess", str(file), "--json", "--artifacts", str(artifacts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def panels(file: Path, artifacts: Path, record: dict[str, Any]) -> list[tuple[str, Picture]]:
    """Title and picture of each panel."""
    grey = np.rint(decode_dicom(file.read_bytes(), limits=Limits()).pixels * 255).astype(np.uint8)
    mask = picture(artifacts / f"{file.stem}.mask.png")[..., 0]
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined = cv2.drawContours(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), outlines, -1, OUTLINE_BGR, 3)
    low, high = record["interval_low_months"] / 12, record["interval_high_months"] / 12
    age = f"{record['age_months'] / 12:.1f} years ({low:.1f} to {high:.1f})"
    return [
        ("drawn phantom, outlined", np.asarray(outlined, np.uint8)),
        ("enhanced hand", picture(artifacts / f"{file.stem}.enhanced.png")),
        (age, picture(artifacts / f"{file.stem}.cam.png")),
    ]


def picture(path: Path) -> Picture:
    """A picture in colours (H, W, 3)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path.name} is not a picture")
    return np.asarray(image, np.uint8)


def titled(title: str, image: Picture) -> Picture:
    """The picture at the common height with its title above."""
    width = max(round(image.shape[1] * HEIGHT_PX / image.shape[0]), 330)
    scale = HEIGHT_PX / image.shape[0]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((TITLE_PX + HEIGHT_PX, width, 3), np.uint8)
    left = (width - small.shape[1]) // 2
    canvas[TITLE_PX : TITLE_PX + small.shape[0], left : left + small.shape[1]] = small[:HEIGHT_PX]
    cv2.putText(canvas, title, (8, 30), FONT, 0.7, (235, 235, 235), 1, cv2.LINE_AA)
    return canvas


def main() -> None:
    """Read, draw, write."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    with tempfile.TemporaryDirectory() as folder:
        record = read(file, Path(folder))
        row = [titled(*panel) for panel in panels(file, Path(folder), record)]
    gap = np.full((row[0].shape[0], GAP_PX, 3), 255, np.uint8)
    cv2.imwrite(str(TARGET), np.hstack([part for panel in row for part in (panel, gap)][:-1]))


if __name__ == "__main__":
    main()
