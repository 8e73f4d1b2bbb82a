"""A small set of real radiographs for the cluster's training jobs, from the whole one, and a copy with shuffled ages.

    python tests/cluster/small_set.py RADIOGRAPHS FOLDER

The folder gets images, sizes.csv, labels.csv, and shuffled.csv: the same ages, each with another child.
"""

import csv
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import numpy as np

from training.data.split import read_split

COUNTS: Final = {"train": 120, "validation": 12, "calibration": 102, "test": 12}
"""No release is published with less than 100 radiographs to calibrate it with; gates are fitted on a sixth of the train
part for each of six kinds, and with fewer than these they stop hands as well."""
SEED: Final = 5


def main(radiographs: Path, folder: Path) -> None:
    """Draw the radiographs and write the folder."""
    source = radiographs / "rsna-bone-age"
    with (source / "boneage-training-dataset.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    with (source / "image-size.csv").open(newline="") as file:
        sizes = {row["id"]: row for row in csv.DictReader(file)}
    members: dict[str, list[str]] = defaultdict(list)
    for id_, part in sorted(read_split().items()):
        if id_ in rows and id_ in sizes:
            members[part].append(id_)
    rng = np.random.default_rng(SEED)
    chosen = [members[part][i] for part, count in COUNTS.items() for i in rng.permutation(len(members[part]))[:count]]
    (folder / "images").mkdir(parents=True)
    for id_ in chosen:
        shutil.copy(source / "boneage-training-dataset" / f"{id_}.jpg", folder / "images")
    ages = [rows[chosen[i]]["boneage"] for i in rng.permutation(len(chosen))]
    _write(folder / "sizes.csv", [sizes[id_] for id_ in chosen])
    _write(folder / "labels.csv", [rows[id_] for id_ in chosen])
    _write(folder / "shuffled.csv", [rows[id_] | {"boneage": age} for id_, age in zip(chosen, ages, strict=True)])


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
