"""Outlined ellipses in noise, for tests of who learns outlines."""

import shutil
from pathlib import Path

import cv2
import numpy as np


def draw_ellipses(folder: Path, count: int, *, test: tuple[int, ...], selection: tuple[int, ...] = ()) -> Path:
    """`count` of them with their tables in `folder`, which is returned; some test, some select, others may be asked."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks/image", "masks/mask"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros((90, 70), np.uint8)
        cv2.ellipse(mask, (35, 45), (int(rng.integers(12, 20)), int(rng.integers(22, 36))), 8, 0, 360, 255, -1)
        picture = np.clip(np.where(mask > 0, 170, 30) + rng.normal(0, 8, mask.shape), 0, 255).astype(np.uint8)
        for name, image in (("images", picture), ("masks/image", picture), ("masks/mask", mask)):
            cv2.imwrite(str(folder / name / f"{number}.png"), image)
    tables = {
        "labels": ["id,boneage,male", *(f"{number},100,True" for number in range(count))],
        "split": ["id,part", *(f"{number},train" for number in range(count))],
        "selection": ["id", *map(str, selection)],
        "test": ["id", *map(str, test)],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def leave_outlines(folder: Path, ids: tuple[str, ...]) -> Path:
    """Take all outlines away but those of `ids`; the folder where they all lie now."""
    away = folder / "away"
    shutil.copytree(folder / "masks" / "mask", away)
    for path in (folder / "masks" / "mask").iterdir():
        if path.stem not in ids:
            path.unlink()
    return away
