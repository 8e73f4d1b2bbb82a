"""Activation maps by age and sex on one sheet, as in the paper's Figure 13: what the network looks at as a hand grows.

For each sex and two years of age some radiographs of the test part are read, and three of them shown: that with the
smallest discrepancy between read and true age, one in the middle, and that with the largest.
"""

import csv
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.outlines import assessed
from training.data.split import read_split

Figures = dict[str, Any]
BAND_MONTHS: Final = 24
LAST_MONTHS: Final = 216
"""From here on all ages share the last column."""
PER_CELL: Final = 9
TILE_PX: Final = 200
CAPTION_PX: Final = 18
SEXES: Final = {"male": "True", "female": "False"}
"""As the services name them, and as the column `male` of the labels does."""
WHITE: Final = (255, 255, 255)


class Reading(NamedTuple):
    """One radiograph that got a number; ages in months."""

    id: str
    true: float
    read: float

    @property
    def discrepancy(self) -> float:
        """Read less true age in months."""
        return self.read - self.true


def activation_sheet(data: Path, *, sheet: Path) -> Figures:
    """Write `sheet`: three rows a sex, a column for every two years. Gives how many were read, and which are shown."""
    rsna = data / "rsna-bone-age"
    with (rsna / "boneage-training-dataset.csv").open(newline="") as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    test = [table[id_] for id_, part in read_split().items() if part == "test"]
    count, rows, shown = 0, [], {}
    for sex, written in SEXES.items():
        cells: dict[int, list[dict[str, str]]] = {band: [] for band in range(LAST_MONTHS // BAND_MONTHS + 1)}
        for row in test:
            if row["male"] == written:
                cells[band_of(float(row["boneage"]))].append(row)
        ages = {row["id"]: float(row["boneage"]) for cell in cells.values() for row in cell[:PER_CELL]}
        images = {id_: rsna / "boneage-training-dataset" / f"{id_}.jpg" for id_ in ages}
        with tempfile.TemporaryDirectory() as pictures:
            answers = assessed(images, data, Path(pictures), "--sex", sex)
            count += len(answers)
            chosen = representative(
                [
                    Reading(Path(answer["path"]).stem, ages[Path(answer["path"]).stem], answer["age_months"])
                    for answer in answers
                    if answer["status"] == "OK"
                ]
            )
            for place in range(3):
                tiles = [_tile(Path(pictures), chosen.get(band, [None] * 3)[place]) for band in cells]
                rows.append(np.hstack(tiles))
        shown[sex] = [reading.id for readings in chosen.values() for reading in readings if reading]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(sheet), np.vstack(rows))
    return {"n": count, "shown": shown, "sheet": str(sheet)}


def band_of(months: float) -> int:
    """Which column an age belongs to."""
    return int(min(months, LAST_MONTHS) // BAND_MONTHS)


def representative(readings: list[Reading]) -> dict[int, list[Reading | None]]:
    """By column: the reading with the smallest discrepancy, that in the middle, and that with the largest.

    None in place of a reading that would be there twice.
    """
    cells: dict[int, list[Reading]] = {}
    for reading in sorted(readings, key=lambda reading: (abs(reading.discrepancy), reading.id)):
        cells.setdefault(band_of(reading.true), []).append(reading)
    return {
        band: [cell[0], cell[len(cell) // 2] if len(cell) > 2 else None, cell[-1] if len(cell) > 1 else None]
        for band, cell in sorted(cells.items())
    }


def _tile(pictures: Path, reading: Reading | None) -> NDArray[np.uint8]:
    """The activation map over its hand, padded to a square, with true age and discrepancy below; black for none."""
    tile = np.zeros((TILE_PX + CAPTION_PX, TILE_PX, 3), np.uint8)
    if reading is None:
        return tile
    picture = cv2.imread(str(pictures / f"{reading.id}.cam.png"), cv2.IMREAD_COLOR)
    assert picture is not None
    scale = TILE_PX / max(picture.shape[:2])
    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    caption = f"{reading.true:.0f} mo, read {reading.discrepancy:+.1f}"
    place = (4, TILE_PX + CAPTION_PX - 5)
    cv2.putText(tile, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
    return tile
