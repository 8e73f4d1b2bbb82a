"""Whether the activation maps look at bone, and whether the age really comes from where they point.

Bone: the share of a map that lies on labelled ossification regions, over the share of the hand's area that these are;
1 would be a map that knows nothing of bone. Of the map's positive part, of which a young child's has hardly any; of the
sign that prevails in it; and of how far it departs from its median. Deletion: the cells of the grid are blanked one
after another, in the order of what they add to the age or take from it, and at random; the more the age moves after a
few, the more the map tells.
Map and age are those of the radiograph's sex, as they are served where it is given.
"""

import csv
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import read_grey8
from benchmarks.direct import DirectChain
from services.cam.pipeline import interpolation
from services.cli.tables import read_labels
from services.core.domain.contracts import SEX_ORDER, Sex
from services.core.domain.gates import Abstention
from services.core.domain.metrics import figure, mean
from services.core.domain.preprocess import Square, crop_square, to_frame
from services.core.runtime.cores import available_cores
from services.core.runtime.settings import ModelSettings, read_settings
from training.data.split import read_split

Figures = dict[str, Any]
IMAGES: Final = 300
STEPS: Final = (0.05, 0.1, 0.2, 0.3, 0.5)
RANDOM_ORDERS: Final = 5


def activation(data: Path) -> Figures:
    """Both figures on radiographs with labelled regions that nothing was trained on, with bootstrap intervals."""
    images = data / "rsna-bone-age" / "boneage-training-dataset"
    maps = {path.stem: path for path in sorted((data / "ossification-regions").glob("*.png"))}
    split = read_split()
    chosen = [id_ for id_ in maps if split.get(id_, "train") != "train"][:IMAGES]
    with (data / "rsna-bone-age" / "image-size.csv").open(newline="") as file:
        sizes = {row["id"]: (int(row["height"]), int(row["width"])) for row in csv.DictReader(file)}
    labels = read_labels(data / "rsna-bone-age" / "boneage-training-dataset.csv")
    chain = _chain()
    bone: dict[str, list[float]] = {"positive": [], "prevailing": [], "departure": []}
    moved: dict[str, list[NDArray[np.float64]]] = {"by the map": [], "at random": []}
    for index, id_ in enumerate(chosen):
        hand = chain.hand(np.asarray(read_grey8(images / f"{id_}.jpg") / 255, np.float32), sizes.get(id_))
        if isinstance(hand, Abstention):
            continue
        sex = labels[id_].sex
        grid = chain.regress(hand.image[None, None])["activation"][0, SEX_ORDER.index(sex)]
        labelled = _on_hand(read_grey8(maps[id_]) > 0, sizes.get(id_), hand.crop, hand.image.shape)
        months, inside = lay(grid, hand.image.shape), hand.image > 0
        if (labelled & inside).any():
            sign = np.sign(months[inside].sum())
            bone["positive"].append(enrichment(np.maximum(months, 0), labelled, inside))
            bone["prevailing"].append(enrichment(np.maximum(sign * months, 0), labelled, inside))
            bone["departure"].append(enrichment(np.abs(months - np.median(months)), labelled, inside))
        by_map, at_random = deletion(chain, hand.image, sex, grid, np.random.default_rng((9, index)))
        moved["by the map"].append(by_map)
        moved["at random"].append(at_random)
    return {
        "n": len(chosen), "with_bone": len(bone["positive"]), "read": len(moved["at random"]),
        "enrichment": {name: _mean(np.array(values)) for name, values in bone.items()},
        "deletion_months": {
            name: {f"{step:.0%}": round(float(month), 2) for step, month in zip(STEPS, np.mean(values, 0), strict=True)}
            for name, values in moved.items()
        },
        "deletion_gain_months": _mean((np.array(moved["by the map"]) - np.array(moved["at random"])).mean(1)),
    }  # fmt: skip


def enrichment(mass: NDArray[np.floating], labelled: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float:
    """Share of `mass` (H, W) that lies on `labelled`, over the share of area that this is; both of what is `inside`."""
    total = float(mass[inside].sum())
    share = float(mass[labelled & inside].sum()) / total if total else 0.0
    return share / float(labelled[inside].mean())


def lay(grid: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A grid of contributions laid over the hand (H, W) that it was read from."""
    rows, _ = interpolation(shape[0], 0, shape[0], grid.shape[0])
    columns, _ = interpolation(shape[1], 0, shape[1], grid.shape[1])
    return np.asarray(rows @ grid @ columns.T, np.float32)


def deletion(
    chain: DirectChain, hand: NDArray[np.float32], sex: Sex, grid: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Months by which the age moves once each share in `STEPS` of the hand's cells is blanked: by the map, at random.

    `grid` (G, G) is the map of `sex`, whose age is looked at.
    """
    cells = _cells(hand.shape, grid.shape)
    showing = np.unique(cells[hand > 0])
    strength = np.abs(grid - np.median(grid)).ravel()[showing]
    orders = [showing[np.argsort(-strength, kind="stable")]]
    orders += [rng.permutation(showing) for _ in range(RANDOM_ORDERS)]
    whole = _age(chain, hand[None], sex)[0]
    moved = np.array([np.abs(_age(chain, _blanked(hand, cells, order), sex) - whole) for order in orders])
    return moved[0], moved[1:].mean(0)


def _blanked(hand: NDArray[np.float32], cells: NDArray[np.intp], order: NDArray[np.intp]) -> NDArray[np.float32]:
    """The hand (H, W) without the first cells of `order`, one image for each of `STEPS`."""
    return np.stack([np.where(np.isin(cells, order[: max(1, round(s * len(order)))]), 0, hand) for s in STEPS])


def _cells(shape: tuple[int, ...], grid: tuple[int, ...]) -> NDArray[np.intp]:
    """Which cell of the grid each pixel (H, W) belongs to."""
    rows = np.arange(shape[0]) * grid[0] // shape[0]
    columns = np.arange(shape[1]) * grid[1] // shape[1]
    return rows[:, None] * grid[1] + columns


def _age(chain: DirectChain, hands: NDArray[np.float32], sex: Sex) -> NDArray[np.float64]:
    outputs = chain.regress(np.ascontiguousarray(hands[:, None], np.float32))
    return np.asarray(outputs["age_months"][:, SEX_ORDER.index(sex)], np.float64)


def _on_hand(
    labelled: NDArray[np.bool_], true_shape: tuple[int, int] | None, crop: Square, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Labels of a stored radiograph, cropped and scaled like the hand."""
    frame = to_frame(labelled.astype(np.float32), true_shape=true_shape)
    return crop_square(frame, crop, size_px=shape[0]) >= 0.5


def _chain() -> DirectChain:
    threads = dict.fromkeys(("segmentation", "enhancement", "regression"), available_cores())
    return DirectChain(read_settings(ModelSettings).model_repository, threads)


def _mean(values: NDArray[np.floating]) -> dict[str, Any]:
    found = figure(np.asarray(values, np.float64), mean)
    return {"mean": found.value, "ci95": [found.low, found.high]}
