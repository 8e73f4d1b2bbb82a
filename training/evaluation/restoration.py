"""How well degraded hands are brought back, and how steadily; figures inside the hand alone."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SSIM_SIGMA_PX: Final = 1.5


def psnr(restored: Image, original: Image) -> float:
    """Peak signal-to-noise ratio in dB of a hand (S, S) in [0, 1] against the original, inside that."""
    inside = original > 0
    error = float(np.square(restored[inside] - original[inside]).mean())
    return float(-10 * np.log10(max(error, 1e-10)))


def ssim(restored: Image, original: Image) -> float:
    """Mean structural similarity inside the hand (Wang Z et al., IEEE TIP 2004), Gaussian window of 1.5 px."""
    _, local = structural_similarity(
        original, restored, data_range=1.0, gaussian_weights=True, sigma=SSIM_SIGMA_PX, use_sample_covariance=False,
        full=True,
    )  # fmt: skip
    return float(local[original > 0].mean())


def contrast_to_noise(hand: Image, bone: Mask, tissue: Mask) -> float:
    """Mean of the bone less mean of the tissue around it, over the root mean square of both their deviations."""
    noise = np.sqrt((hand[bone].var() + hand[tissue].var()) / 2)
    return float((hand[bone].mean() - hand[tissue].mean()) / max(float(noise), 1e-6))


def unsteadiness(variants: Image) -> float:
    """Standard deviation over variants (V, S, S) of one hand, averaged over what is hand in the first."""
    return float(variants.std(axis=0)[variants[0] > 0].mean())
