"""Shows some prepared hands, as they came and what was made of them, for people to look at."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.rows import Rows
from training.run.results import write_picture

SHOWN: Final = 8
FORMS: Final = ("raw", "segmented", "enhanced")
LINE_PX: Final = 24
WHITE: Final = 255


def draw_hands(prepared: Rows, path: Path, *, failed: int, seed: int = 0) -> None:
    """A PNG of up to `SHOWN` hands drawn from all that are there, a column each: their names, then every form of them.

    The title counts the hands, and those that `failed`. Raises StoreUnwritableError.
    """
    there = np.flatnonzero(prepared.done)
    drawn = np.sort(np.random.default_rng(seed).permutation(there)[:SHOWN])
    forms = [form for form in FORMS if form in prepared.columns]
    side = prepared.columns[forms[0]].shape[1]
    sheet = np.zeros((2 * LINE_PX + len(forms) * side, SHOWN * side), np.uint8)
    counts = f"{len(there)} of {len(prepared.ids)} hands are prepared, {failed} failed"
    _write(sheet, f"{counts}; {', '.join(forms)} from above", top=0)
    for place, row in enumerate(drawn):
        column = slice(place * side, (place + 1) * side)
        _write(sheet[:, column], prepared.ids[row], top=LINE_PX)
        sheet[2 * LINE_PX :, column] = np.concatenate([prepared.columns[form][row] for form in forms])
    write_picture(path, sheet)


def _write(sheet: NDArray[np.uint8], text: str, *, top: int) -> None:
    cv2.putText(sheet, text, (4, top + LINE_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, WHITE, 1, cv2.LINE_AA)
