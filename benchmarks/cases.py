"""Images for the accuracy figures: one radiograph in many forms, turned hands, and what is not a hand at all."""

import csv
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.negatives import noise, text_page, tilted

Grey8 = NDArray[np.uint8]

PHOTOGRAPHS: Final = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png",
    "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
    "horse.png",
)  # fmt: skip
FACES: Final = 8


def photographs() -> Iterator[tuple[str, Grey8]]:
    """Thirty grey photographs (H, W) that scikit-image ships: 22 pictures and 8 faces."""
    folder = files("skimage") / "data"
    for name in PHOTOGRAPHS:
        grey = cv2.imdecode(np.frombuffer((folder / name).read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise ValueError(f"scikit-image's {name} cannot be decoded")
        yield f"photograph-{name}", np.asarray(grey, np.uint8)
    faces = np.load(str(folder / "lfw_subset.npy"))
    for index in range(FACES):
        face = cv2.resize((faces[index] * 255).astype(np.uint8), (400, 400), interpolation=cv2.INTER_CUBIC)
        yield f"photograph-face-{index}", face


def not_hands(*, each: int = 10) -> Iterator[tuple[str, Grey8]]:
    """Photographs, noise and pages of text, none of which anything was fitted on (their seeds are their own)."""
    yield from photographs()
    for index in range(each):
        rng = np.random.default_rng((424242, index))
        yield f"noise-{index}", _grey8(noise(rng))
        yield f"uniform-noise-{index}", rng.integers(0, 256, (600, 450)).astype(np.uint8)
        yield f"text-{index}", _grey8(text_page(rng))


def shuffled_hand(grey: Grey8, index: int) -> Grey8:
    """A radiograph whose patches lie in another order: a grid of 3 to 8, drawn from the index."""
    rng = np.random.default_rng((777, index))
    grid = int(rng.integers(3, 9))
    height, width = grey.shape[0] // grid, grey.shape[1] // grid
    patches = [
        grey[r * height : (r + 1) * height, c * width : (c + 1) * width] for r in range(grid) for c in range(grid)
    ]
    order = rng.permutation(len(patches))
    return np.vstack([np.hstack([patches[i] for i in order[r * grid : (r + 1) * grid]]) for r in range(grid)])


def turned_hand(grey: Grey8, angle_deg: float) -> Grey8:
    """A radiograph turned about its centre on a canvas that holds all of it; air comes in as the darkest grey."""
    return np.rint(tilted(grey.astype(np.float32), angle_deg, whole=True)).astype(np.uint8)


def read_grey8(path: Path) -> Grey8:
    """A grey 8-bit image file (H, W)."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError(f"{path.name} is not an image")
    return np.asarray(grey, np.uint8)


def true_aspect(rsna: Path, id_: str) -> Grey8:
    """A stored radiograph with its true aspect, at its stored height."""
    with (rsna / "image-size.csv").open(newline="") as file:
        sizes = {row["id"]: (int(row["height"]), int(row["width"])) for row in csv.DictReader(file)}
    grey = read_grey8(rsna / "boneage-training-dataset" / f"{id_}.jpg")
    height, width = sizes.get(id_, grey.shape)
    side = (round(grey.shape[0] * width / height), grey.shape[0])
    return np.asarray(cv2.resize(grey, side, interpolation=cv2.INTER_AREA), np.uint8)


def png(grey: Grey8) -> bytes:
    """The PNG file of an image (H, W)."""
    return cv2.imencode(".png", grey)[1].tobytes()


def _grey8(image: NDArray[np.float32]) -> Grey8:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
