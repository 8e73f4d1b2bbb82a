"""Where the served mask is: against outlines drawn by people, and against ossification maps of radiographs without."""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from benchmarks.cases import Grey8, read_grey8
from services.core.domain.metrics import dice
from training.data.split import MASK_TEST_CSV, read_ids

INSIDE: Final = 0.99
WORST: Final = 20
COLUMNS: Final = 5
TILE_PX: Final = 299
RED, GREEN = (60, 60, 255), (90, 220, 90)

Figures = dict[str, Any]


def drawn_outlines(data: Path) -> Figures:
    """Dice of the served mask on the 20 outlines that nothing was trained on or selected with."""
    ids = read_ids(MASK_TEST_CSV)
    masks = data / "hand-masks"
    found = served_masks({id_: masks / "image" / f"{id_}.png" for id_ in ids}, data)
    scores = {}
    for id_ in ids:
        true = read_grey8(masks / "mask" / f"{id_}.png") > 0
        scores[id_] = dice(_at(found[id_], true.shape), true) if id_ in found else 0.0
    return {
        "n": len(ids), "dice_mean": float(np.mean(list(scores.values()))), "dice_min": min(scores.values()),
        "lowest": sorted(scores, key=scores.__getitem__)[:3],
    }  # fmt: skip


def ossification(data: Path, *, sheet: Path) -> Figures:
    """Share of radiographs whose labelled bone lies to 99% inside the served mask; the worst go onto a contact sheet.

    The crop holds the whole mask (services.core.domain.preprocess.hand_square), so that what is inside the mask is
    inside the crop.
    """
    maps = {path.stem: path for path in sorted((data / "ossification-regions").glob("*.png"))}
    outlined = {path.stem for path in (data / "hand-masks" / "mask").glob("*.png")}
    images = data / "rsna-bone-age" / "boneage-training-dataset"
    chosen = {id_: images / f"{id_}.jpg" for id_ in maps if id_ not in outlined and (images / f"{id_}.jpg").exists()}
    found = served_masks(chosen, data)
    inside = {}
    for id_ in chosen:
        labelled = read_grey8(maps[id_]) > 0
        inside[id_] = float(_at(found[id_], labelled.shape)[labelled].mean()) if id_ in found else 0.0
    worst = sorted(inside, key=inside.__getitem__)[:WORST]
    tiles = [_tile(read_grey8(chosen[id_]), found.get(id_), read_grey8(maps[id_]), inside[id_]) for id_ in worst]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(sheet), np.vstack(rows))
    shares = np.array(list(inside.values()))
    return {
        "n": len(shares), "without_mask": len(chosen) - len(found), "median_inside": float(np.median(shares)),
        "inside_99_share": float((shares >= INSIDE).mean()), "worst": {id_: round(inside[id_], 4) for id_ in worst},
    }  # fmt: skip


def served_masks(images: dict[str, Path], data: Path) -> dict[str, np.ndarray]:
    """Masks (H, W) bool at the size of each image file, as `boneage assess --artifacts` writes them."""
    with tempfile.TemporaryDirectory() as name:
        assessed(images, data, Path(name))
        return {id_: read_grey8(path) > 0 for id_ in images if (path := Path(name) / f"{id_}.mask.png").exists()}


def assessed(images: dict[str, Path], data: Path, artifacts: Path, *arguments: str) -> list[dict[str, Any]]:
    """What `boneage assess` answers for each image, in order of their ids; its pictures lie in `artifacts`."""
    with tempfile.TemporaryDirectory() as name:
        folder, sizes = Path(name) / "in", Path(name) / "sizes.csv"
        folder.mkdir()
        for id_, path in images.items():
            (folder / f"{id_}{path.suffix}").symlink_to(path.resolve())
        _write_sizes(sizes, data, images)
        command = ["assess", str(folder), "--sizes", str(sizes), "--artifacts", str(artifacts), "--json", *arguments]
        done = subprocess.run([sys.executable, "-m", "services.cli", *command], capture_output=True, check=False)
        answered = [json.loads(line) for line in done.stdout.splitlines()]
        if len(answered) != len(images):
            raise RuntimeError(f"{len(answered)} answers for {len(images)} images:\n{done.stderr.decode()[-2000:]}")
        return answered


def _write_sizes(path: Path, data: Path, ids: Iterable[str]) -> None:
    """The sizes at acquisition of those ids that have one."""
    wanted = set(ids)
    with (data / "rsna-bone-age" / "image-size.csv").open(newline="") as file, path.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["id", "height", "width"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in csv.DictReader(file) if row["id"] in wanted)


def _at(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask at another size, by nearest neighbour."""
    if mask.shape == shape:
        return mask
    return cv2.resize(mask.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0


def _tile(grey: Grey8, mask: np.ndarray | None, labels: Grey8, share: float) -> np.ndarray:
    """A radiograph with the mask's outline in green and labelled bone outside it in red."""
    size = (TILE_PX, TILE_PX)
    tile = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    inside = np.zeros(size, bool) if mask is None else _at(mask, size)
    tile[(_at(labels > 0, size)) & ~inside] = RED
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tile, contours, -1, GREEN, 1)
    cv2.putText(tile, f"{share:.1%}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, GREEN, 1, cv2.LINE_AA)
    return np.asarray(tile)
