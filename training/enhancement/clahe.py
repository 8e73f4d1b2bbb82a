"""Contrast-limited adaptive histogram equalisation, what the enhancer is compared with.

Zuiderveld K, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

CLIP_LIMIT: Final = 2.0
TILES: Final = (8, 8)


def equalised(hand: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A segmented hand (S, S) with its contrast equalised tile by tile; what is zero, outside the mask, stays zero."""
    result = cv2.createCLAHE(CLIP_LIMIT, TILES).apply(hand)
    return np.where(hand > 0, np.maximum(result, 1), 0).astype(np.uint8)
