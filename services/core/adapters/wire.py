"""Translates between the messages of `boneage.v1` and the domain's types, in both directions."""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.v1 import assessment_pb2, common_pb2, regression_pb2
from services.core.adapters.imaging import Decoded, Limits, decode_dicom, decode_encoded, decode_raw
from services.core.domain.contracts import Sex
from services.core.domain.gates import Abstention, Reason
from services.core.domain.preprocess import Image, Mask, Square
from services.core.domain.reading import Activation, Age, Classes, ClassProbability, ModelVersion
from services.core.errors import InvalidRadiographError, InvalidRequestError

SEX_TO_WIRE: Final["Mapping[Sex, common_pb2.Sex.ValueType]"] = {
    "male": common_pb2.SEX_MALE,
    "female": common_pb2.SEX_FEMALE,
    "unknown": common_pb2.SEX_UNKNOWN,
}
SEX_FROM_WIRE: Final[Mapping[int, Sex]] = {wire: sex for sex, wire in SEX_TO_WIRE.items()}
REASON_TO_WIRE: Final["Mapping[Reason, common_pb2.AbstentionReason.ValueType]"] = {
    Reason.NO_HAND: common_pb2.ABSTENTION_REASON_NO_HAND,
    Reason.LOW_CONTRAST: common_pb2.ABSTENTION_REASON_LOW_CONTRAST,
    Reason.NOT_LIKE_TRAINING: common_pb2.ABSTENTION_REASON_NOT_LIKE_TRAINING,
    Reason.NOT_UPRIGHT: common_pb2.ABSTENTION_REASON_NOT_UPRIGHT,
    Reason.INTERVAL_TOO_WIDE: common_pb2.ABSTENTION_REASON_INTERVAL_TOO_WIDE,
}
REASON_FROM_WIRE: Final[Mapping[int, Reason]] = {wire: reason for reason, wire in REASON_TO_WIRE.items()}

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Signature, length and name of the IHDR chunk, width, height (ISO/IEC 15948, 5.2 and 11.2.2).
PNG_HEADER: Final = struct.Struct(">16sII")
INSIDE: Final = 255
# Masks and pictures pass between processes of one machine or one network: speed counts more than their size.
PNG_FAST: Final = (cv2.IMWRITE_PNG_COMPRESSION, 1)
GREATEST_GRID_CELLS: Final = 64 * 64


def radiograph(message: common_pb2.Radiograph, *, limits: Limits, field: str = "radiograph") -> Decoded:
    """Decode a radiograph in whichever form it was sent; errors name `field` as the place.

    Raises InvalidRadiographError and what is below it; InvalidRequestError where nothing was sent.
    """
    kind = message.WhichOneof("content")
    if kind is None:
        raise InvalidRequestError("nothing was sent: set dicom, encoded or raw", field=field)
    try:
        return DECODERS[kind](message, limits)
    except InvalidRadiographError as error:
        raise type(error)(error.reason, field=field + error.field.removeprefix("radiograph")) from error


def _raw(message: common_pb2.Radiograph, limits: Limits) -> Decoded:
    raw = message.raw
    if raw.format not in PIXEL_TYPES:
        raise InvalidRadiographError("say what a pixel is: UINT8, UINT16 or FLOAT32", field="radiograph.raw.format")
    return decode_raw(
        raw.data,
        height=raw.size.height,
        width=raw.size.width,
        pixel_format=PIXEL_TYPES[raw.format],
        limits=limits,
    )


PIXEL_TYPES: Final[Mapping[int, str]] = {
    common_pb2.PIXEL_FORMAT_UINT8: "uint8",
    common_pb2.PIXEL_FORMAT_UINT16: "uint16",
    common_pb2.PIXEL_FORMAT_FLOAT32: "float32",
}
DECODERS: Final[Mapping[str, Callable[[common_pb2.Radiograph, Limits], Decoded]]] = {
    "dicom": lambda message, limits: decode_dicom(message.dicom, limits=limits),
    "encoded": lambda message, limits: decode_encoded(message.encoded, limits=limits),
    "raw": _raw,
}


def true_shape(message: common_pb2.Radiograph, *, field: str = "radiograph") -> tuple[int, int] | None:
    """Height and width at acquisition; None where they were not sent."""
    if not message.HasField("true_size"):
        return None
    if not (message.true_size.height and message.true_size.width):
        raise InvalidRequestError("height and width must both be at least 1", field=f"{field}.true_size")
    return message.true_size.height, message.true_size.width


def raw_float32(image: Image) -> common_pb2.RawPixels:
    """(H, W) grey levels in [0, 1] as they are."""
    data = np.ascontiguousarray(np.clip(image, 0, 1), dtype="<f4").tobytes()
    return _raw_pixels(image.shape, common_pb2.PIXEL_FORMAT_FLOAT32, data)


def raw_uint8(image: NDArray[np.uint8]) -> common_pb2.RawPixels:
    """(H, W) grey levels from 0 to 255 as they are."""
    return _raw_pixels(image.shape, common_pb2.PIXEL_FORMAT_UINT8, np.ascontiguousarray(image).tobytes())


def float32_from_wire(message: common_pb2.RawPixels) -> Image:
    """(H, W) float32 pixels that one of our own services sent."""
    pixels = np.frombuffer(message.data, "<f4").reshape(message.size.height, message.size.width)
    return np.asarray(pixels, dtype=np.float32)


def _raw_pixels(
    shape: tuple[int, ...], pixel_format: "common_pb2.PixelFormat.ValueType", data: bytes
) -> common_pb2.RawPixels:
    size = common_pb2.PixelSize(height=shape[0], width=shape[1])
    return common_pb2.RawPixels(size=size, format=pixel_format, data=data)


def png(image: NDArray[np.uint8]) -> bytes:
    """(H, W) grey or (H, W, 3) blue-green-red pixels as a PNG file."""
    done, encoded = cv2.imencode(".png", image, PNG_FAST)
    if not done:
        raise ValueError(f"an image of shape {image.shape} does not fit a PNG file")
    return encoded.tobytes()


def picture(encoded: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) blue-green-red pixels of a colour PNG that one of our own services sent."""
    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)


def mask_to_wire(mask: Mask) -> common_pb2.Mask:
    """A mask (H, W) as a PNG of 0 and 255."""
    return common_pb2.Mask(png=png(mask.astype(np.uint8) * INSIDE))


def mask_from_wire(message: common_pb2.Mask, *, shape: tuple[int, int], field: str = "mask") -> Mask:
    """The mask of an image of `shape` (height, width); its size is checked before a pixel is decoded."""
    header = message.png[: PNG_HEADER.size]
    if len(header) < PNG_HEADER.size or not header.startswith(PNG_SIGNATURE):
        raise InvalidRadiographError("the mask is not a PNG file", field=f"{field}.png")
    _, width, height = PNG_HEADER.unpack(header)
    if (height, width) != shape:
        reason = f"the mask has {height} x {width} pixels, the radiograph {shape[0]} x {shape[1]}"
        raise InvalidRadiographError(reason, field=f"{field}.png")
    pixels = cv2.imdecode(np.frombuffer(message.png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise InvalidRadiographError("the mask's PNG file is damaged", field=f"{field}.png")
    return np.asarray(pixels > INSIDE // 2, dtype=np.bool_)


def square_to_wire(square: Square | None) -> common_pb2.Square | None:
    """A square window, where there is one."""
    return None if square is None else common_pb2.Square(x=square.x, y=square.y, side=square.side)


def square_from_wire(message: common_pb2.Square) -> Square:
    """A square window; raises InvalidRadiographError for one without a side."""
    return Square(x=message.x, y=message.y, side=message.side)


def activation_to_wire(activation: Activation) -> common_pb2.ActivationGrid:
    """A grid of contributions."""
    height, width = activation.values_months.shape
    return common_pb2.ActivationGrid(
        size=common_pb2.PixelSize(height=height, width=width),
        values_months=activation.values_months.ravel().tolist(),
        bias_months=activation.bias_months,
    )


def activation_from_wire(message: common_pb2.ActivationGrid, *, field: str = "activation") -> Activation:
    """A grid of contributions (h, w), all finite, in number as its size says."""
    height, width = message.size.height, message.size.width
    values = np.asarray(message.values_months, dtype=np.float32)
    if not 0 < height * width <= GREATEST_GRID_CELLS:
        reason = f"a grid of {height} x {width} is not between 1 and {GREATEST_GRID_CELLS} cells"
        raise InvalidRequestError(reason, field=f"{field}.size")
    if values.size != height * width:
        reason = f"a grid of {height} x {width} needs {height * width} values, not {values.size}"
        raise InvalidRequestError(reason, field=f"{field}.values_months")
    if not (np.isfinite(values).all() and np.isfinite(message.bias_months)):
        raise InvalidRequestError("every contribution and the bias must be finite", field=f"{field}.values_months")
    return Activation(values.reshape(height, width), message.bias_months)


def set_value(
    response: regression_pb2.EstimateBoneAgeResponse | assessment_pb2.AssessResponse, value: Age | Classes
) -> None:
    """Put what was read into a response: an age with its interval, or classes with their probabilities."""
    if isinstance(value, Age):
        response.age_months = value.months
        response.interval_low_months, response.interval_high_months = value.low_months, value.high_months
    else:
        response.class_probabilities.extend(
            common_pb2.ClassProbability(name=c.name, probability=c.probability, in_set=c.in_set) for c in value
        )


def classes_from_wire(messages: Iterable[common_pb2.ClassProbability]) -> Classes:
    """Classes with their probabilities."""
    return tuple(ClassProbability(message.name, message.probability, message.in_set) for message in messages)


def abstention_to_wire(abstention: Abstention | None) -> common_pb2.Abstention | None:
    """A refusal with its reason, where there is one."""
    if abstention is None:
        return None
    return common_pb2.Abstention(reason=REASON_TO_WIRE[abstention.reason], explanation=abstention.explanation)


def abstention_from_wire(message: common_pb2.Abstention) -> Abstention:
    """A refusal with its reason."""
    return Abstention(REASON_FROM_WIRE[message.reason], message.explanation)


def model_to_wire(model: ModelVersion) -> common_pb2.ModelVersion:
    """The model that answered."""
    return common_pb2.ModelVersion(name=model.name, version=model.version)


def model_from_wire(message: common_pb2.ModelVersion) -> ModelVersion:
    """The model that answered."""
    return ModelVersion(message.name, message.version)


def sex_from_wire(value: int, *, field: str = "sex") -> Sex | None:
    """The sex that was sent; None where none was."""
    if value == common_pb2.SEX_UNSPECIFIED:
        return None
    if value not in SEX_FROM_WIRE:
        raise InvalidRequestError(f"{value} stands for no sex", field=field)
    return SEX_FROM_WIRE[value]
