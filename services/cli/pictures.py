"""Prepares the pictures of a reading for a page: scaled down, the mask drawn as an outline, encoded as data URIs."""

import base64
from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.v1 import assessment_pb2

Pixels = NDArray[np.uint8]

PICTURE_PX: Final = 480
OUTLINE_BGR: Final = (214, 200, 38)
OUTLINE_PX: Final = 2


def pictures_of(artifacts: assessment_pb2.Artifacts) -> Mapping[str, str]:
    """Data URIs by name (radiograph, outline, enhanced, cam) of those pictures that there are."""
    decoded = {
        "radiograph": _decode(artifacts.radiograph_png),
        "outline": _outlined(_decode(artifacts.radiograph_png), _decode(artifacts.mask_png)),
        "enhanced": _decode(artifacts.enhanced_png),
        "cam": _decode(artifacts.cam_png),
    }
    return {name: data_uri(_fit(picture)) for name, picture in decoded.items() if picture is not None}


def data_uri(picture: Pixels) -> str:
    """A picture (H, W) grey or (H, W, 3) BGR as the PNG data URI of an HTML page."""
    _, encoded = cv2.imencode(".png", picture)
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _decode(png: bytes) -> Pixels | None:
    if not png:
        return None
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if decoded is None else decoded.astype(np.uint8)


def _fit(picture: Pixels) -> Pixels:
    """`picture` with a long side of at most `PICTURE_PX`."""
    scale = min(1.0, PICTURE_PX / max(picture.shape[:2]))
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _outlined(radiograph: Pixels | None, mask: Pixels | None) -> Pixels | None:
    """The radiograph with the edge of the mask drawn over it."""
    if radiograph is None or mask is None:
        return None
    canvas = cv2.cvtColor(_fit(radiograph), cv2.COLOR_GRAY2BGR)
    small = cv2.resize(mask, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(canvas, contours, -1, OUTLINE_BGR, OUTLINE_PX, cv2.LINE_AA).astype(np.uint8)
