"""The one stored split of the RSNA radiographs: drawn once, by sex and age band, and never redrawn.

RSNA gives no patient id, so an image stands for a patient. Every radiograph that has a hand mask is in `train`, and 20
of those masks are listed in `mask_test.csv`: they score the segmenter and are never trained on nor selected with.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import numpy as np

from training.data.tables import read_table
from training.run.exits import BadConfigurationError

Part = Literal["train", "validation", "calibration", "test"]
SHARES: Final[dict[Part, float]] = {"train": 0.80, "validation": 0.07, "calibration": 0.06, "test": 0.07}
BAND_MONTHS: Final = 24
WHOLE_WEIGHT: Final = 0.3
"""Of what a part lacks in the whole, beside what it lacks in the stratum: strata stay within one radiograph."""
SPLIT_CSV: Final = Path(__file__).with_name("split.csv")
MASK_TEST_CSV: Final = Path(__file__).with_name("mask_test.csv")


def draw_split(
    strata: Mapping[str, Hashable],
    *,
    always_train: Iterable[str],
    seed: int,
    shares: Mapping[Part, float] = SHARES,
    there: Mapping[tuple[Hashable, Part], int] | None = None,
) -> dict[str, Part]:
    """Part of each radiograph, given its stratum by id, with `shares` held within each stratum and in the whole.

    Each goes to the part that lacks most of its share (minimisation: Taves DR, Clin Pharmacol Ther 1974;15:443-453), so
    that a few radiographs, drawn now and then, or strata of few come to the same shares; `there` counts those that have
    a part already, by stratum and part. What is `always_train` is of the train part also where it is more than that
    part's share.
    """
    fixed = set(always_train)
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[str]] = defaultdict(list)
    for id_, stratum in strata.items():
        members[stratum].append(id_)
    counts = Counter[tuple[Hashable, Part]](there)
    whole = Counter[Part]()
    for (_, counted), count in counts.items():
        whole[counted] += count

    def lacking(stratum: Hashable, part: Part) -> float:
        own = shares[part] * (1 + sum(counts[stratum, other] for other in shares)) - counts[stratum, part]
        return own + WHOLE_WEIGHT * (shares[part] * (1 + whole.total()) - whole[part])

    ordered = [
        (stratum, ids[index])
        for stratum, ids in sorted(members.items(), key=lambda item: str(item[0]))
        for index in rng.permutation(len(ids))
    ]
    parts: dict[str, Part] = {}
    for stratum, id_ in sorted(ordered, key=lambda entry: entry[1] not in fixed):
        part: Part = "train" if id_ in fixed else max(shares, key=partial(lacking, stratum))
        parts[id_] = part
        counts[stratum, part] += 1
        whole[part] += 1
    return parts


def read_split(path: Path = SPLIT_CSV) -> dict[str, Part]:
    """Part of each radiograph by its id. Raises BadConfigurationError."""
    rows = {row["id"]: row["part"] for row in read_table(path, ["id", "part"], key="id")}
    if unknown := sorted(set(rows.values()) - set(SHARES)):
        raise BadConfigurationError(f"{path}: unknown parts {unknown}; known are {list(SHARES)}")
    return rows  # type: ignore[return-value]  # checked just above


def read_ids(path: Path) -> list[str]:
    """The column `id` of a CSV file."""
    return [row["id"] for row in read_table(path, ["id"])]


def split_hash(path: Path = SPLIT_CSV) -> str:
    """SHA-256 of the stored split, for model cards."""
    return sha256(path.read_bytes()).hexdigest()
