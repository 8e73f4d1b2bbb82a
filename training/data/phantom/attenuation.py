"""How much a bone attenuates: chords through a cortical shell and trabecular filling, in mm of cortical bone."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.phantom.canvas import Canvas
from training.data.phantom.outlines import Points
from training.data.phantom.parts import Part

Image = NDArray[np.float32]

TRABECULAR: Final = 0.17
"""Density of trabecular bone at the ends, relative to cortical."""
MARROW: Final = 0.04
"""The same in the middle of a shaft."""
SHIFT: Final = 4
"""Fractional bits of the polygons drawn."""
TEXTURE_PX: Final = 512


def trabeculae(rng: np.random.Generator) -> Image:
    """A tileable texture (TEXTURE_PX, TEXTURE_PX) of strands along the rows' axis, zero mean and unit deviation."""
    noise = rng.standard_normal((TEXTURE_PX, TEXTURE_PX)).astype(np.float32)
    frequency = np.fft.fftfreq(TEXTURE_PX)
    along, across = frequency[:, None], frequency[None, :]
    radius = np.hypot(along * 2.0, across)
    spectrum = np.exp(-(((radius - 0.16) / 0.09) ** 2)) + 1.2 * np.exp(-((radius / 0.03) ** 2))
    texture = np.fft.ifft2(np.fft.fft2(noise) * spectrum).real
    return np.asarray((texture - texture.mean()) / texture.std(), np.float32)


def add_part(image: Image, part: Part, canvas: Canvas, texture: Image, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Add the part's attenuation to `image` (H, W) in mm of cortical bone; return where it is (H, W)."""
    inside = np.zeros(image.shape, np.uint8)
    outline = canvas.to_pixels(part.outline)
    cv2.fillPoly(inside, [np.rint(outline * (1 << SHIFT)).astype(np.int32)], 1, shift=SHIFT)
    window = _window(outline, image.shape)
    if window is None or not inside[window].any():
        return inside.astype(bool)
    patch = _patch(inside[window], part, canvas, (window[1].start, window[0].start), texture, rng)
    image[window] += part.weight * patch
    return inside.astype(bool)


def _window(outline: Points, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 3, (shape[1], shape[0]))
    return (slice(low[1], high[1]), slice(low[0], high[0])) if (high > low).all() else None


def _patch(
    inside: NDArray[np.uint8],
    part: Part,
    canvas: Canvas,
    corner: tuple[int, int],
    texture: Image,
    rng: np.random.Generator,
) -> Image:
    along, across = _local_mm(inside.shape, part, canvas, corner)
    padded = np.pad(inside, 1)
    edge_px = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    edge_mm = np.asarray(edge_px / canvas.px_per_mm, np.float32)
    half, offset = _sections(inside, edge_mm, along, across, is_tube=part.is_tube, step=2.2 / canvas.px_per_mm)
    relative = np.clip(along / part.length_mm, 0, 1)
    midness = np.clip(1 - np.abs(relative - 0.52) / 0.36, 0, 1) ** 0.8 if part.is_tube else np.zeros_like(relative)
    cortex = part.cortex_mm[0] + (part.cortex_mm[1] - part.cortex_mm[0]) * midness
    outer = _chord(half, offset)
    # The cavity ends `cortex` from the side walls, and a thinner plate from the ends.
    cavity = _chord(np.maximum(half - cortex, 0), offset)
    plate = np.clip(edge_mm / 0.45, 0, 1) if part.is_tube else np.clip(edge_mm / 0.55, 0, 1)
    walls = outer - cavity
    strands = _strands(along, across, texture, rng)
    density = TRABECULAR + (MARROW - TRABECULAR) * midness
    filling = cavity * density * (1 + 0.75 * strands / np.sqrt(1 + cavity))
    ends = (1 - plate) * cavity * 0.22
    return np.asarray(inside * part.depth * (walls * (1 + 0.05 * strands) + filling + ends), np.float32)


def _local_mm(shape: tuple[int, ...], part: Part, canvas: Canvas, corner: tuple[int, int]) -> tuple[Image, Image]:
    """Coordinates of a patch's pixels along and across the part's axis in mm."""
    origin = canvas.to_pixels(part.origin[None])[0]
    axis = canvas.vector(part.along)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    x, y = columns + corner[0] - origin[0], rows + corner[1] - origin[1]
    return (
        np.asarray((x * axis[0] + y * axis[1]) / canvas.px_per_mm, np.float32),
        np.asarray((x * axis[1] - y * axis[0]) / canvas.px_per_mm, np.float32),
    )


def _sections(
    inside: NDArray[np.uint8],
    edge_mm: Image,
    along: Image,
    across: Image,
    *,
    is_tube: bool,
    step: float,
) -> tuple[Image, Image]:
    """Half width of the section through each pixel, and the pixel's offset from its middle, both in mm.

    Sections are `step` mm apart: two pixels or more, since a thinner one misses pixels where the bone lies askew.
    """
    if not is_tube:
        half = np.full_like(edge_mm, min(float(edge_mm.max()), 5.0))
        return half, np.maximum(half - edge_mm, 0)
    index = np.floor(along / step).astype(np.int32)
    first = int(index[inside > 0].min())
    index = np.clip(index - first, 0, None)
    size = int(index[inside > 0].max()) + 1
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, index[inside > 0], across[inside > 0])
    np.maximum.at(high, index[inside > 0], across[inside > 0])
    seen = np.isfinite(low) & np.isfinite(high)
    knots = (np.arange(size)[seen] + first + 0.5) * step
    half = np.interp(along, knots, _smooth((high[seen] - low[seen]) / 2)).astype(np.float32)
    middle = np.interp(along, knots, _smooth((high[seen] + low[seen]) / 2)).astype(np.float32)
    return np.asarray(half), np.abs(across - middle)


def _smooth(values: Points) -> Points:
    return np.convolve(np.pad(values, 2, mode="edge"), np.array([1, 4, 6, 4, 1]) / 16, mode="valid")


def _chord(half: Image, offset: Image) -> Image:
    """Length of the chord through a round section of half width `half`, `offset` from its middle."""
    return np.asarray(2 * np.sqrt(np.maximum(half**2 - offset**2, 0)))


def _strands(along: Image, across: Image, texture: Image, rng: np.random.Generator) -> Image:
    px_per_mm = 5.0
    shift = rng.uniform(0, TEXTURE_PX, 2)
    size = texture.shape[0]
    moved = cv2.remap(
        texture,
        ((across * px_per_mm + shift[0]) % size).astype(np.float32),
        ((along * px_per_mm + shift[1]) % size).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return np.asarray(moved, np.float32)
