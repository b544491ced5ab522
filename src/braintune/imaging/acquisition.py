"""What a scanner does along an axis: blur, thick slices and ghosts, each as one small matrix.

All three are linear and act on one axis at a time, so those of an axis are multiplied together
first, and the image is touched once an axis.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float64]
# Where a Gaussian is cut off, in standard deviations.
_REACH = 4.0


def blur_matrix(n: int, sigma: float) -> Matrix:
    """Convolution of n values with a Gaussian; there is 0 beyond the ends.

    Args:
        n: How many values.
        sigma: Standard deviation, in values.

    Example:
        >>> blur_matrix(5, 0.5)[2].round(3)
        array([0.   , 0.106, 0.787, 0.106, 0.   ])
    """
    radius = int(_REACH * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    kernel /= kernel.sum()
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.where(distance <= radius, kernel[radius + np.minimum(distance, radius)], 0.0)


@lru_cache(maxsize=256)
def slice_matrix(n: int, slices: int) -> Matrix:
    """Averages of n values over equal slices, and linear interpolation back to n values.

    Slices may begin and end within a value. Beyond the middles of the outer slices, values are
    theirs.

    Example:
        >>> slice_matrix(4, 2) @ [0, 2, 4, 6]
        array([1., 2., 4., 5.])
    """
    edges = np.arange(slices + 1) * n / slices
    low, high = edges[:-1, None], edges[1:, None]
    values = np.arange(n)
    overlap = np.clip(np.minimum(high, values + 1) - np.maximum(low, values), 0, None)
    averages = overlap / overlap.sum(axis=1, keepdims=True)
    middles = (edges[:-1] + edges[1:]) / 2 - 0.5
    back = np.stack([np.interp(values, middles, unit) for unit in np.eye(slices)], axis=1)
    return back @ averages


def ghost_matrix(n: int, ghosts: int, phase: float) -> Matrix:
    """Ghosts of periodic motion along the axis of phase encoding.

    Motion with a period adds a phase to the lines of k-space that swings along them (Wood and
    Henkelman 1985, Med. Phys. 12, 143). With ``ghosts`` lines a period, line k has the phase
    ``phase`` · sin(2πk / ghosts). The image becomes a sum of copies of itself that are shifted by
    multiples of n / ghosts values and go round, the j-th with the weight of the Bessel function
    J_j(phase). The matrix is orthogonal, so the energy stays, and so does the mean. For even n, the
    line at the Nyquist frequency has no phase, so that the image stays real.

    Example:
        >>> image = ghost_matrix(15, 5, 0.2) @ np.eye(15)[7]
        >>> [(place, round(float(image[place]), 2)) for place in (4, 7, 10)]
        [(4, 0.1), (7, 0.99), (10, -0.1)]
        >>> round(float((image**2).sum()), 6), round(float(image.sum()), 6)
        (1.0, 1.0)
    """
    lines = np.fft.fftfreq(n, 1 / n)
    phases = phase * np.sin(2 * np.pi * lines / ghosts)
    phases[np.abs(lines) == n / 2] = 0
    column = np.fft.ifft(np.exp(1j * phases)).real
    return column[np.subtract.outer(np.arange(n), np.arange(n)) % n]


def along_axes(images: torch.Tensor, matrices: Sequence[Sequence[Matrix | None]]) -> torch.Tensor:
    """Multiply each image by a matrix along each axis.

    Args:
        images: Of shape (batch, channels, x, y, z).
        matrices: For each image three square matrices, along x, y and z; None changes nothing.

    Returns:
        Images of the same shape.
    """
    for axis, of_axis in enumerate(zip(*matrices, strict=True)):
        if all(matrix is None for matrix in of_axis):
            continue
        n = images.shape[2 + axis]
        stacked = np.stack([np.eye(n) if matrix is None else matrix for matrix in of_axis])
        products = torch.from_numpy(stacked).to(images)
        if axis == 2:
            rows = images.flatten(1, 3)
            images = torch.bmm(rows, products.mT).view_as(images)
            continue
        # Whole slabs are multiplied at once: axes before this one count as batch.
        slabs = images.reshape(*images.shape[: 2 + axis], n, -1)
        shape = (len(images), *[1] * axis, 1, n, n)
        images = torch.matmul(products.view(shape), slabs).view_as(images)
    return images
