"""How differently a committee sees an image (paper 2.2, equations 5 to 7)."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating]


def sine(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    """Equation 5: the sine of the angle between feature vectors (..., D), in [0, 1]; 0 where one of them is zero."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.divide((a * b).sum(axis=-1), lengths, out=np.ones_like(lengths), where=lengths > 0)
    return np.sqrt(np.clip(1 - cosine**2, 0, 1))


def matrix(vectors: Vectors) -> NDArray[np.float64]:
    """Equation 6: dissimilarity (..., C, C) of each two of C members' feature vectors (..., C, D); zero diagonal."""
    result = sine(vectors[..., :, None, :], vectors[..., None, :, :])
    members = np.arange(vectors.shape[-2])
    result[..., members, members] = 0
    return result


def dissimilarity(vectors: Vectors) -> NDArray[np.float64]:
    """Equation 7: the sum over all pairs of C members' feature vectors (..., C, D)."""
    rows, columns = np.tril_indices(vectors.shape[-2], -1)
    total: NDArray[np.float64] = matrix(vectors)[..., rows, columns].sum(axis=-1)
    return total
