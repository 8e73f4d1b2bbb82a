"""From an activation grid to a heat map that lies on the radiograph (paper 2.5)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain.contracts import Sex
from services.core.domain.ports import Inference
from services.core.domain.preprocess import HAND_PX, Image, Square, crop_square, whole
from services.core.domain.reading import Activation, ModelVersion, activation_of
from services.core.domain.release import Release
from services.core.errors import InvalidRequestError
from services.core.runtime.deadlines import Deadline
from services.core.runtime.reading import read_upright
from services.core.runtime.workers import Workers

FEWER_BGR: Final = (255, 150, 40)
MORE_BGR: Final = (20, 110, 255)
GREATEST_COLOUR_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A map (H, W) of a radiograph: 0 is `low_months`, 255 is `high_months`, and 0 where it is not `inside` the crop.

    `usual_months` is what the median place contributes.
    """

    heat: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    low_months: float
    high_months: float
    usual_months: float


class CamPipeline:
    """Gets activation grids from the model that reads, for who has none yet."""

    def __init__(self, inference: Inference, workers: Workers) -> None:
        self._inference = inference
        self._workers = workers

    async def activation(
        self, hand: Image, *, sex: Sex, release: Release, deadline: Deadline
    ) -> tuple[Activation, ModelVersion]:
        """The activation of a prepared hand (H, W) in [0, 1] for a child of `sex`."""
        model = ModelVersion(release.reader, release.models[release.reader])
        square = hand if hand.shape == (HAND_PX, HAND_PX) else crop_square(hand, whole(hand), size_px=HAND_PX)
        outputs, _ = await read_upright(self._inference, model, square[None, None], release.gates, deadline)
        return activation_of(outputs, release, sex), model


def heat_map(activation: Activation, crop: Square, *, shape: tuple[int, int]) -> HeatMap:
    """Lay a grid over the square `crop` of an image of `shape` (H, W), bilinear between the cells' centres.

    Raises InvalidRequestError where the crop shows nothing of the image.
    """
    rows, inside_rows = interpolation(shape[0], crop.y, crop.side, activation.values_months.shape[0])
    columns, inside_columns = interpolation(shape[1], crop.x, crop.side, activation.values_months.shape[1])
    inside = inside_rows[:, None] & inside_columns[None, :]
    if not inside.any():
        raise InvalidRequestError("the square lies outside the radiograph", field="crop")
    months = rows @ activation.values_months @ columns.T
    low, high = float(months[inside].min()), float(months[inside].max())
    scaled = (months - low) * (255 / (high - low) if high > low else 0)
    heat = np.where(inside, np.rint(np.clip(scaled, 0, 255)), 0).astype(np.uint8)
    return HeatMap(heat, inside, low, high, float(np.median(activation.values_months)))


def interpolation(pixels: int, start: int, side: int, cells: int) -> tuple[Image, NDArray[np.bool_]]:
    """Linear weights (pixels, cells) of a row of cells over `side` pixels from `start`, and which pixels those are.

    Beyond the outer cells' centres their values go on.
    """
    centres = np.arange(pixels) + 0.5 - start
    place = np.clip(centres / side * cells - 0.5, 0, cells - 1)
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(cells)), 0, 1).astype(np.float32)
    return weights, (centres > 0) & (centres < side)


def overlay(pixels: Image, heat_map: HeatMap) -> NDArray[np.uint8]:
    """The map in colours over the grey radiograph (H, W) in [0, 1]: (H, W, 3) blue, green, red.

    A place shows the more colour the further it departs from what a place usually contributes, blue where it takes from
    the age and orange where it adds to it: most of the map is empty background, whose even share says nothing.
    """
    months = np.linspace(heat_map.low_months, heat_map.high_months, 256, dtype=np.float32)
    departure = months - np.float32(heat_map.usual_months)
    share = np.abs(departure) * np.float32(GREATEST_COLOUR_SHARE / max(float(np.abs(departure).max()), 1e-6))
    colours = np.where(departure[:, None] < 0, FEWER_BGR, MORE_BGR).astype(np.float32)
    shares = np.where(heat_map.inside, share[heat_map.heat], 0)[:, :, None]
    base = np.rint(pixels * 255)[:, :, None]
    return np.rint(base + shares * (colours[heat_map.heat] - base)).astype(np.uint8)
