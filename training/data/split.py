"""The one stored split of the RSNA radiographs: drawn once, by sex and age band, and never redrawn.

RSNA gives no patient id, so an image stands for a patient. Every radiograph that has a hand mask is in `train`, and 20
of those masks are listed in `mask_test.csv`: they score the segmenter and are never trained on nor selected with.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import numpy as np

from training.data.tables import read_table
from training.run.exits import BadConfigurationError

Part = Literal["train", "validation", "calibration", "test"]
SHARES: Final[dict[Part, float]] = {"train": 0.80, "validation": 0.07, "calibration": 0.06, "test": 0.07}
BAND_MONTHS: Final = 24
SPLIT_CSV: Final = Path(__file__).with_name("split.csv")
MASK_TEST_CSV: Final = Path(__file__).with_name("mask_test.csv")


def draw_split(
    strata: Mapping[str, Hashable], *, always_train: Iterable[str], seed: int, shares: Mapping[Part, float] = SHARES
) -> dict[str, Part]:
    """Part of each radiograph, given its stratum by id, with `shares` held within each stratum.

    What is `always_train` is of the train part also where it is more than that part's share; the others then share what
    is left as their shares are to each other.
    """
    fixed = set(always_train)
    names = sorted(shares, key=lambda part: part != "train")
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[str]] = defaultdict(list)
    for id_, stratum in strata.items():
        members[stratum].append(id_)
    parts: dict[str, Part] = {}
    for _, ids in sorted(members.items(), key=lambda item: str(item[0])):
        ordered = [ids[i] for i in rng.permutation(len(ids))]
        ordered.sort(key=lambda id_: id_ not in fixed)
        bounds = np.rint(np.cumsum([shares[name] for name in names]) * len(ordered)).astype(int)
        if (taken := len(fixed.intersection(ids))) > bounds[0]:
            left = (len(ordered) - taken) / max(len(ordered) - bounds[0], 1)
            bounds = np.rint(taken + (bounds - bounds[0]) * left).astype(int)
        for position, id_ in enumerate(ordered):
            parts[id_] = names[int(np.searchsorted(bounds, position, side="right"))]
    return parts


def read_split(path: Path = SPLIT_CSV) -> dict[str, Part]:
    """Part of each radiograph by its id."""
    rows = {row["id"]: row["part"] for row in read_table(path, ["id", "part"])}
    if unknown := sorted(set(rows.values()) - set(SHARES)):
        raise BadConfigurationError(f"{path}: unknown parts {unknown}; known are {list(SHARES)}")
    return rows  # type: ignore[return-value]  # checked just above


def read_ids(path: Path) -> list[str]:
    """The column `id` of a CSV file."""
    return [row["id"] for row in read_table(path, ["id"])]


def split_hash(path: Path = SPLIT_CSV) -> str:
    """SHA-256 of the stored split, for model cards."""
    return sha256(path.read_bytes()).hexdigest()
