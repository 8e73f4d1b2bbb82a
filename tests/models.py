"""Tiny models with the agreed contracts, whose answers a test can work out by hand, and a repository that holds them.

The segmenter takes what is bright for the hand. The enhancer gives the hand back, or its negative. The regressor's age
is BIAS_MONTHS plus MONTHS_PER_BRIGHTNESS times the mean brightness of the hand. Its typicality is that mean, and by how
much the upper rows are brighter than the lower ones: a hand with a bright top is an upright one. The classifier tells
dark hands from bright ones in the same way.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.core.adapters.model_repository import preprocessing_sha256
from services.core.adapters.publishing import publish_model, publish_release
from services.core.adapters.store import Store
from services.core.domain.contracts import CLASSIFIER, CONTRACTS, ENHANCER, REGRESSOR, SEGMENTER, SEX_ORDER
from services.core.domain.gates import GateThresholds, Reason, TypicalityLimit
from services.core.domain.preprocess import SEGMENT_PX
from services.core.domain.release import ClassCalibration, IntervalCell, Release

BIAS_MONTHS: Final = (100.0, 90.0, 95.0)
MONTHS_PER_BRIGHTNESS: Final = (60.0, 50.0, 55.0)
HALF_WIDTH_MONTHS: Final = 12.0
CLASSES: Final = ("dark", "bright")
BIAS_LOGITS: Final = (0.5, -0.5)
LOGITS_PER_BRIGHTNESS: Final = (-4.0, 4.0)
TEMPERATURE: Final = 2.0
SET_PROBABILITY: Final = 0.3
RELEASE_ID: Final = "tiny-1"
MADE_BY_HAND: Final = "nothing: made by hand"
MADE_BY_HAND: Final = "nothing: made by hand"
GRID: Final = 7
OPSET: Final = 18


@dataclass(frozen=True, slots=True)
class Variations:
    """How a repository departs from the one that reads every hand."""

    inventing: bool = False
    least_typicality: float = 0.0
    least_top: float = -1.0
    doubts_what_lies: bool = False
    half_width_months: float = HALF_WIDTH_MONTHS
    classes: bool = False


def segmenter(*, doubts_what_lies: bool = False) -> onnx.ModelProto:
    """Probability of the hand: a steep sigmoid of the brightness about 0.25.

    In a radiograph that is bright on the whole, a negative, only of the darkest bone. One that `doubts_what_lies` finds
    but the brightest bone, and is not certain of it, where no wrist comes in from below.
    """
    rows = np.zeros((1, 1, SEGMENT_PX, 1), np.float32)
    rows[:, :, : SEGMENT_PX // 4], rows[:, :, -SEGMENT_PX // 4 :] = -4, 4
    nodes = [
        helper.make_node("Sub", ["radiograph", "middle"], ["above"]),
        helper.make_node("Sub", ["darkest", "radiograph"], ["below"]),
        helper.make_node("ReduceMean", ["radiograph", "axes"], ["mean"], keepdims=1),
        helper.make_node("Greater", ["mean", "half"], ["negative"]),
        helper.make_node("Where", ["negative", "below", "above"], ["shown"]),
        helper.make_node("Mul", ["shown", "slope"], ["certain"]),
        helper.make_node("Mul", ["radiograph", "rows"], ["weighed"]),
        helper.make_node("ReduceMean", ["weighed", "axes"], ["wrist"], keepdims=1),
        helper.make_node("Greater", ["wrist", "least"], ["upright"]),
        helper.make_node("Sub", ["radiograph", "brightest"], ["doubtful"]),
        helper.make_node("Where", ["upright", "certain", "doubtful"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["hand_probability"]),
    ]
    return _model(
        SEGMENTER, nodes, middle=np.float32(0.25), slope=np.float32(60), darkest=np.float32(0.15), half=np.float32(0.5),
        axes=np.array([1, 2, 3]), rows=rows, least=np.float32(0.05 if doubts_what_lies else -np.inf),
        brightest=np.float32(0.75),
    )  # fmt: skip


def enhancer(*, inventing: bool = False) -> onnx.ModelProto:
    """The hand as it is; an inventing one gives its negative, in which no structure is left."""
    if inventing:
        return _model(ENHANCER, [helper.make_node("Sub", ["one", "hand"], ["enhanced"])], one=np.float32(1))
    return _model(ENHANCER, [helper.make_node("Identity", ["hand"], ["enhanced"])])


def regressor(*, older_months: float = 0.0) -> onnx.ModelProto:
    """Contributions in proportion to the brightness of each cell; mean plus bias, and `older_months`, is the age."""
    low, middle, high = BIAS_MONTHS
    bias = (low + older_months, middle + older_months, high + older_months)
    return _reader(REGRESSOR, MONTHS_PER_BRIGHTNESS, bias)


def classifier() -> onnx.ModelProto:
    """Two classes: the logit of `bright` rises with the mean brightness of the hand, that of `dark` falls."""
    return _reader(CLASSIFIER, LOGITS_PER_BRIGHTNESS, BIAS_LOGITS)


def _reader(name: str, per_brightness: tuple[float, ...], bias: tuple[float, ...]) -> onnx.ModelProto:
    cell = CONTRACTS[name].inputs[0].dims[1] // GRID
    output, _, bias_output, _ = (spec.name for spec in CONTRACTS[name].outputs)
    nodes = [
        helper.make_node("AveragePool", ["hand"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Conv", ["cells", "weight"], ["activation"]),
        helper.make_node("ReduceMean", ["activation", "space"], ["mean_activation"], keepdims=0),
        helper.make_node("Mul", ["mean_activation", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "offset"], [bias_output]),
        helper.make_node("Add", ["mean_activation", bias_output], [output]),
        helper.make_node("ReduceMean", ["cells", "space"], ["brightness"], keepdims=0),
        helper.make_node("Mul", ["cells", "upward"], ["above_below"]),
        helper.make_node("ReduceMean", ["above_below", "space"], ["top"], keepdims=0),
        helper.make_node("Concat", ["brightness", "top"], ["typicality"], axis=1),
    ]
    return _model(
        name,
        nodes,
        weight=np.array(per_brightness, np.float32).reshape(-1, 1, 1, 1),
        offset=np.array([bias], np.float32),
        zero=np.float32(0),
        upward=np.sign(np.arange(GRID // 2, -GRID // 2, -1, np.float32)).reshape(1, 1, GRID, 1),
        space=np.array([2, 3], np.int64),
    )


def tiny_release(release_id: str = RELEASE_ID, *, version: int = 1, variations: Variations | None = None) -> Release:
    """A release of version `version` of every model, whose gates let through whatever shows a bright hand."""
    chosen = variations or Variations()
    limits = (
        TypicalityLimit("brightness", chosen.least_typicality, Reason.NOT_LIKE_TRAINING),
        TypicalityLimit("top", chosen.least_top, Reason.NOT_UPRIGHT),
    )
    cells = tuple(
        IntervalCell(sex, -np.inf, np.inf, chosen.half_width_months, calibration_images=100) for sex in SEX_ORDER
    )
    return Release(
        id=release_id,
        models=dict.fromkeys((SEGMENTER, ENHANCER, CLASSIFIER if chosen.classes else REGRESSOR), version),
        preprocessing_sha256=preprocessing_sha256(),
        interval_level=0.9,
        interval_cells=() if chosen.classes else cells,
        gates=GateThresholds(
            minimum_contrast=0.2,
            minimum_foreground_fraction=0.02,
            maximum_foreground_fraction=0.9,
            minimum_mask_certainty=0.5,
            typicality=limits,
            maximum_interval_width_months=60.0,
            maximum_structure_change=0.5,
        ),
        baseline_mae_months=None if chosen.classes else 8.0,
        classes=ClassCalibration(CLASSES, TEMPERATURE, SET_PROBABILITY) if chosen.classes else None,
    )


def write_repository(root: Path, variations: Variations | None = None) -> Path:
    """A model repository with one release, which is current."""
    chosen = variations or Variations()
    publish_tiny(Store(str(root)), tiny_release(variations=chosen), variations=chosen)
    return root


def publish_tiny(
    store: Store,
    release: Release,
    *,
    private_key: Path | None = None,
    variations: Variations | None = None,
    older_months: float = 0.0,
    current: bool = True,
) -> Release:
    """Publish a release, and those of its versions that the store lacks; its ages may be `older_months` too high."""
    chosen = variations or Variations()
    models = {SEGMENTER: segmenter(doubts_what_lies=chosen.doubts_what_lies)}
    models |= {ENHANCER: enhancer(inventing=chosen.inventing)}
    models |= {CLASSIFIER: classifier()} if release.classes else {REGRESSOR: regressor(older_months=older_months)}
    with TemporaryDirectory() as folder:
        for name, model in models.items():
            if not store.exists(f"{name}/{release.models[name]}/card.json"):
                weights = Path(folder) / name
                onnx.save(model, str(weights))
                publish_model(store, CONTRACTS[name], release.models[name], weights, {"trained_on": MADE_BY_HAND})
    return publish_release(store, release, private_key=private_key, current=current)


def hand_picture(height: int = 320, width: int = 260) -> NDArray[np.float32]:
    """A drawn hand, bright on dark, (height, width) in [0, 1]: palm, five fingers, wrist."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = rows / height, columns / width
    palm = ((y - 0.65) / 0.2) ** 2 + ((x - 0.5) / 0.22) ** 2 < 1
    fingers = (y > 0.15) & (y < 0.65) & (x > 0.28) & (x < 0.72) & (np.sin(x * 45) > -0.2)
    wrist = (y >= 0.65) & (y < 0.97) & (np.abs(x - 0.5) < 0.13)
    bone = 0.7 + 0.15 * np.sin(x * 31) * np.cos(y * 23)
    return np.asarray(np.where(palm | fingers | wrist, bone, 0.03 + 0.02 * np.sin(x * 9)), dtype=np.float32)


def _model(name: str, nodes: list[onnx.NodeProto], **constants: np.ndarray | np.generic) -> onnx.ModelProto:
    contract = CONTRACTS[name]

    def info(tensor: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
        sizes = ["batch", *(f"{tensor}_{axis}" if size < 0 else size for axis, size in enumerate(dims))]
        return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, sizes)

    graph = helper.make_graph(
        nodes,
        name,
        [info(spec.name, spec.dims) for spec in contract.inputs],
        [info(spec.name, spec.dims) for spec in contract.outputs],
        [numpy_helper.from_array(np.asarray(value), constant) for constant, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model
