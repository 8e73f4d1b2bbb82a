"""Results of a run, each file whole or not there. All raise StoreUnwritableError."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from training.run.room import whole

if TYPE_CHECKING:  # what draws no plot, such as `split`, does without it
    from matplotlib.figure import Figure


def write_text(path: Path, text: str) -> None:
    """Text in UTF-8."""
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: object, *, indent: int | None = None) -> None:
    """A value as JSON."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows below their head as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    write_text(path, text.getvalue())


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """A grey picture (H, W) as PNG."""
    with whole(path) as file:
        file.write(cv2.imencode(".png", picture)[1].tobytes())


def write_figure(path: Path, figure: "Figure", *, dpi: int) -> None:
    """A plot as PNG."""
    with whole(path) as file:
        figure.savefig(file, format="png", dpi=dpi)
