"""What a radiograph may suffer before it arrives: turns, exposure, noise, blur, borders, coarse files."""

from collections.abc import Callable
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Grey8, turned_hand

SIDE_PX: Final = 299
BORDER: Final = 0.1


def brightness(grey: Grey8, factor: float) -> Grey8:
    """Grey levels times `factor`."""
    return _rounded(grey * np.float32(factor))


def contrast(grey: Grey8, factor: float) -> Grey8:
    """Distances from the mean grey level times `factor`."""
    return _rounded((grey - grey.mean(dtype=np.float64)) * factor + grey.mean(dtype=np.float64))


def gamma(grey: Grey8, exponent: float) -> Grey8:
    """Grey levels in [0, 1] to the power of `exponent`."""
    return _rounded((grey / np.float32(255)) ** np.float32(exponent) * 255)


def noise(grey: Grey8, sigma: float) -> Grey8:
    """Gaussian noise of `sigma`, white being 1; the same for images of one shape."""
    drawn = np.random.default_rng(0).normal(0, sigma * 255, grey.shape)
    return _rounded(grey + drawn)


def blur(grey: Grey8, sigma_px: float) -> Grey8:
    """Gaussian blur of `sigma_px` where the long side has 299 pixels."""
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma_px * max(grey.shape) / SIDE_PX), np.uint8)


def white_border(grey: Grey8) -> Grey8:
    """A white frame around, a tenth of the long side wide."""
    width = round(max(grey.shape) * BORDER)
    return np.asarray(np.pad(grey, width, constant_values=255), np.uint8)


def coarse(grey: Grey8, side_px: int) -> Grey8:
    """The long side brought down to `side_px`."""
    scale = side_px / max(grey.shape)
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(grey: Grey8, quality: int) -> Grey8:
    """Stored as JPEG of this quality, and read again."""
    file = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), np.uint8)


def _rounded(grey: NDArray[np.floating]) -> Grey8:
    return np.asarray(np.rint(np.clip(grey, 0, 255)), np.uint8)


def _all() -> dict[str, Callable[[Grey8], Grey8]]:
    changes: dict[str, Callable[[Grey8], Grey8]] = {"as it is": np.asarray}
    changes |= {f"rotate {angle:+d}": partial(turned_hand, angle_deg=angle) for angle in (-30, -15, -5, 5, 15, 30)}
    changes |= {"rotate 90": np.rot90, "rotate 180": partial(np.rot90, k=2), "flip H": np.fliplr, "flip V": np.flipud}
    changes |= {f"brightness x{factor}": partial(brightness, factor=factor) for factor in (0.5, 0.75, 1.25, 1.5)}
    changes |= {f"contrast x{factor}": partial(contrast, factor=factor) for factor in (0.5, 0.75, 1.25, 1.5)}
    changes |= {f"gamma {exponent}": partial(gamma, exponent=exponent) for exponent in (0.5, 0.75, 1.5, 2)}
    changes |= {f"noise {sigma}": partial(noise, sigma=sigma) for sigma in (0.02, 0.05)}
    changes |= {f"blur {sigma} px": partial(blur, sigma_px=sigma) for sigma in (1, 2)}
    changes |= {"inversion": np.invert, "white border": white_border}
    changes |= {f"downsample {side}": partial(coarse, side_px=side) for side in (150, 100)}
    return changes | {f"JPEG {quality}": partial(jpeg, quality=quality) for quality in (50, 20, 10)}


DISTURBANCES: Final = _all()
# Those that cost more than the others: what they take away is not in the image any more.
HARD: Final = {
    "rotate 90", "rotate 180", "flip V", "contrast x0.5", "gamma 2", "downsample 100", "noise 0.05", "JPEG 10",
}  # fmt: skip
