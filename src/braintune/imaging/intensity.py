"""Which voxels are brain, and how intensities are scaled by them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from braintune.imaging.nifti import FloatArray

Mask = npt.NDArray[np.bool_]


def nonzero_mask(image: FloatArray) -> Mask:
    """Voxels that are not exactly 0, as skull-stripping leaves them."""
    return image != 0


def foreground_mask(image: FloatArray) -> Mask:
    """Voxels above Otsu's threshold (IEEE Trans. SMC 9, 1979) between air and head."""
    values = image[np.isfinite(image)]
    low, high = np.percentile(values, [0.1, 99.9])
    if high <= low:
        return np.zeros(image.shape, dtype=bool)
    counts, edges = np.histogram(values, bins=256, range=(low, high))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    mean_below = np.cumsum(counts * centers) / np.maximum(below, 1)
    mean_above = (np.sum(counts * centers) - np.cumsum(counts * centers)) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    return np.asarray(image > centers[between.argmax()])


def whole_mask(image: FloatArray) -> Mask:
    """All voxels."""
    return np.ones(image.shape, dtype=bool)


def zscore(image: FloatArray, mask: Mask) -> FloatArray:
    """Mean 0 and standard deviation 1 within the mask, 0 outside of it.

    Example:
        >>> image = np.array([0.0, 1.0, 3.0], dtype=np.float32)
        >>> zscore(image, image > 0).tolist()
        [0.0, -1.0, 1.0]
    """
    values = image[mask].astype(np.float64)
    scaled = (image - values.mean()) / max(values.std(), 1e-6)
    return np.where(mask, scaled, 0).astype(np.float32)


def minmax(image: FloatArray, mask: Mask) -> FloatArray:
    """From 0 at the mask's minimum to 1 at its maximum, 0 outside of it."""
    return _between(image, mask, float(image[mask].min()), float(image[mask].max()))


def percentile(image: FloatArray, mask: Mask) -> FloatArray:
    """From 0 at the mask's 1st percentile to 1 at its 99th, clipped there, 0 outside of it."""
    low, high = np.percentile(image[mask], [1, 99])
    return np.clip(_between(image, mask, float(low), float(high)), 0, 1)


def unchanged(image: FloatArray, mask: Mask) -> FloatArray:
    """The intensities as they are, 0 outside the mask."""
    return np.where(mask, image, 0).astype(np.float32)


def _between(image: FloatArray, mask: Mask, low: float, high: float) -> FloatArray:
    scaled = (image - low) / max(high - low, 1e-6)
    return np.where(mask, scaled, 0).astype(np.float32)


MASKS: dict[str, Callable[[FloatArray], Mask]] = {
    "nonzero": nonzero_mask,
    "foreground": foreground_mask,
    "whole": whole_mask,
}
RULES: dict[str, Callable[[FloatArray, Mask], FloatArray]] = {
    "zscore": zscore,
    "minmax": minmax,
    "percentile": percentile,
    "none": unchanged,
}
