"""The pictures of an assessment, each in the size of what was sent."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.assessment.ports import Answer, Found, Prepared, Stages
from services.core.domain.geometry import scale_square
from services.core.domain.preprocess import Image, Mask, resize
from services.core.runtime.deadlines import Deadline
from services.core.runtime.workers import Workers

Picture = NDArray[np.uint8]
EncodePng = Callable[[Picture], bytes]
DecodePng = Callable[[bytes], Picture]
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Pictures:
    """PNG files; each is empty where there is nothing to show."""

    mask_png: bytes
    enhanced_png: bytes
    cam_png: bytes
    radiograph_png: bytes


class Painter:
    """Draws what was done to a radiograph; the activation map is drawn by its own stage."""

    def __init__(self, stages: Stages, workers: Workers, encode_png: EncodePng, decode_png: DecodePng) -> None:
        self._stages = stages
        self._workers = workers
        self._encode = encode_png
        self._decode = decode_png

    async def explain(
        self, picture: Picture, found: Found, prepared: Prepared, answer: Answer, *, deadline: Deadline
    ) -> bytes:
        """The activation over the radiograph (H, W) as a colour PNG.

        A squashed radiograph is drawn on in its true aspect, where a square is a square, and squashed again.
        """
        shape, frame = _shape(picture), _shape(found.mask)
        true = unsquashed_shape(shape, frame)
        canvas = picture if true == shape else await self._workers.run(_resized, picture, true)
        crop = scale_square(prepared.crop, source=frame, target=true)
        drawn = await self._stages.explain(canvas, crop, answer.activation, release=found.release, deadline=deadline)
        return drawn if true == shape else await self._workers.run(self._squashed, drawn, shape)

    async def draw(self, picture: Picture, found: Found, prepared: Prepared | None, cam_png: bytes) -> Pictures:
        """All pictures of a radiograph (H, W)."""
        return await self._workers.run(self._draw, picture, found, prepared, cam_png)

    def _draw(self, picture: Picture, found: Found, prepared: Prepared | None, cam_png: bytes) -> Pictures:
        return Pictures(
            mask_png=self._encode(mask_picture(found.mask, _shape(picture))),
            enhanced_png=self._encode(grey_levels(prepared.hand)) if prepared else b"",
            cam_png=cam_png,
            radiograph_png=self._encode(picture),
        )

    def _squashed(self, drawn: bytes, shape: tuple[int, int]) -> bytes:
        return self._encode(_resized(self._decode(drawn), shape))


def grey_levels(image: Image) -> Picture:
    """(H, W) in [0, 1] as 0 to 255."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def mask_picture(mask: Mask, shape: tuple[int, int]) -> Picture:
    """The frame's mask (h, w) at `shape` (H, W): 0 outside, 255 inside."""
    inside = resize(mask, height=shape[0], width=shape[1]) >= HALF
    return inside.astype(np.uint8) * 255


def unsquashed_shape(shape: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """`shape` (H, W) with the frame's aspect and the same long side; `shape` itself where it has that aspect."""
    scale = max(shape) / max(frame)
    true = max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))
    fits = all(abs(a - b) <= max(scale, 1) for a, b in zip(true, shape, strict=True))
    return shape if fits else true


def _resized(picture: Picture, shape: tuple[int, int]) -> Picture:
    return np.rint(resize(picture, height=shape[0], width=shape[1])).astype(np.uint8)


def _shape(image: NDArray[np.generic]) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
