"""From a DICOM file's stored values to grey levels in [0, 1], 1 being dense (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2).

All steps are worked out once for each value that can be stored, at most 65,536, and then looked up per pixel.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from services.core.adapters.imaging.dicom_lut import look_up_table
from services.core.adapters.imaging.dicom_values import FIELD, number, text
from services.core.adapters.imaging.stored_pixels import Codes, PixelLayout
from services.core.domain.preprocess import Image
from services.core.errors import InvalidRadiographError

Levels = NDArray[np.float64]

# Without a window the image's own range is stretched, but never fewer levels than 8 bits have: that would turn the
# noise of an empty image into contrast.
LEAST_STRETCHED_LEVELS: Final = 255
BAND_ROWS: Final = 256


def grey_table(dataset: Dataset, layout: PixelLayout, codes: Codes) -> Image:
    """The grey level (2 ** bits_stored,) in [0, 1] of each bit pattern that a pixel can hold."""
    stored = stored_values(layout)
    values, level = _modality(dataset, layout, stored)
    padding = _padding(dataset, stored)
    lut = look_up_table(dataset, "VOILUTSequence", signed_input=layout.signed)
    if lut is not None:
        levels = lut.scaled(values)
    elif (window := _window(dataset)) is not None:
        levels = window(values)
    else:
        levels = _stretched(values, _present(codes, stored.size) & ~padding, level)
    if _shows_low_values_bright(dataset):
        levels = 1 - levels
    levels[padding] = 0
    if not np.isfinite(levels).all():
        raise InvalidRadiographError("its rescaling or window leaves values that are not numbers", field=FIELD)
    return levels.astype(np.float32)


def apply_table(table: Image, codes: Codes) -> Image:
    """Look each pixel (H, W) up; in bands of rows, since numpy widens the indices to 64 bits."""
    pixels = np.empty(codes.shape, np.float32)
    for top in range(0, codes.shape[0], BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        np.take(table, codes[band], out=pixels[band], mode="clip")
    return pixels


def stored_values(layout: PixelLayout) -> Levels:
    """What each bit pattern means: itself, or its two's complement where pixels are signed (PS3.5 8.1.1)."""
    patterns = np.arange(1 << layout.bits_stored, dtype=np.float64)
    if layout.signed:
        patterns[patterns.size // 2 :] -= patterns.size
    return patterns


def _modality(dataset: Dataset, layout: PixelLayout, stored: Levels) -> tuple[Levels, float]:
    """Values after the modality LUT (C.11.1), and how far apart two neighbouring ones are."""
    lut = look_up_table(dataset, "ModalityLUTSequence", signed_input=layout.signed)
    if lut is not None:
        return lut.values(stored), 1.0
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope == 0:
        raise InvalidRadiographError("RescaleSlope is 0", field=FIELD)
    slope = 1.0 if slope is None else slope
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * slope + (intercept or 0.0), abs(slope)


def _padding(dataset: Dataset, stored: Levels) -> NDArray[np.bool_]:
    """Which stored values only fill the frame (C.7.5.1.1.2); they are shown as background."""
    value = number(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    other = number(dataset, "PixelPaddingRangeLimit")
    ends = sorted((value, value if other is None else other))
    return (stored >= ends[0]) & (stored <= ends[1])


def _present(codes: Codes, size: int) -> NDArray[np.bool_]:
    """Which bit patterns occur in the image."""
    found = np.zeros(size, bool)
    for top in range(0, codes.shape[0], BAND_ROWS):
        found[codes[top : top + BAND_ROWS]] = True
    return found


def _stretched(values: Levels, present: NDArray[np.bool_], level: float) -> Levels:
    """The range of the values `present` as [0, 1]: a mere scaling, so that it loses nothing a window would keep."""
    shown = values[present] if present.any() else values
    low, high = float(shown.min()), float(shown.max())
    width = max(high - low, LEAST_STRETCHED_LEVELS * level)
    least, greatest = float(values.min()), float(values.max())
    start = min(max((low + high - width) / 2, least), max(greatest - width, least))
    return np.clip((values - start) / width, 0, 1)


def _shows_low_values_bright(dataset: Dataset) -> bool:
    """Whether the lowest value is shown white: MONOCHROME1, of which INVERSE is another statement (C.8.11.3.1.2)."""
    inverted = text(dataset, "PresentationLUTShape") == "INVERSE"
    return inverted or text(dataset, "PhotometricInterpretation") == "MONOCHROME1"


def _window(dataset: Dataset) -> Callable[[Levels], Levels] | None:
    """The window (C.11.2.1.2); None where there is none."""
    centre, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if centre is None or width is None:
        return None
    function = text(dataset, "VOILUTFunction") or "LINEAR"
    if function not in WINDOWS:
        raise InvalidRadiographError(f"VOILUTFunction is none of {', '.join(WINDOWS)}", field=FIELD)
    shape, least_width = WINDOWS[function]
    if not width >= least_width:
        raise InvalidRadiographError(f"WindowWidth is below {least_width:g}", field=FIELD)
    return lambda values: shape(values, centre, width)


def _linear(values: Levels, centre: float, width: float) -> Levels:
    """C.11.2.1.2.1: the window covers whole grey levels, hence the halves."""
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _linear_exact(values: Levels, centre: float, width: float) -> Levels:
    """C.11.2.1.3.2."""
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _sigmoid(values: Levels, centre: float, width: float) -> Levels:
    """C.11.2.1.3.1."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-4 * (values - centre) / width))


Shape = Callable[[Levels, float, float], Levels]
WINDOWS: Final[Mapping[str, tuple[Shape, float]]] = {
    "LINEAR": (_linear, 1.0),
    "LINEAR_EXACT": (_linear_exact, np.finfo(np.float32).tiny.item()),
    "SIGMOID": (_sigmoid, np.finfo(np.float32).tiny.item()),
}
