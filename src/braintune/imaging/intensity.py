"""Which voxels are brain, and how intensities are scaled by them."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from braintune.imaging.nifti import FloatArray

Mask = npt.NDArray[np.bool_]
_QUANTILES = np.linspace(0, 1, 257)


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


def histogram(image: FloatArray, mask: Mask) -> FloatArray:
    """Each quantile of the mask at the same quantile of the MNI152 brain, 0 outside of it.

    The order of the intensities stays. Scans of another contrast than T1 get that of T1, which
    takes away differences that may be wanted.
    """
    own = np.quantile(image[mask], _QUANTILES)
    own += np.arange(len(own)) * 1e-9 * max(float(np.ptp(own)), 1.0)  # ties must rise
    matched = np.interp(image, own, template_quantiles(_QUANTILES))
    return np.where(mask, matched, 0).astype(np.float32)


def white_peak(image: FloatArray, mask: Mask) -> FloatArray:
    """White matter at 1, by the brightest peak of the mask's histogram; 0 stays 0.

    The stripe of white matter of Shinohara and others (NeuroImage: Clinical 6, 2014) is found by
    the same peak. A T1-weighted scan is taken for granted.
    """
    values = image[mask]
    low, high = np.percentile(values, [1, 99.5])
    counts, edges = np.histogram(values, bins=200, range=(low, max(high, low + 1e-6)))
    smooth = gaussian_filter1d(counts.astype(np.float64), 5.0, mode="constant")
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner >= smooth[2:]))
    large = peaks[smooth[peaks] > smooth.max() / 4]
    at = int(large[-1]) if len(large) else int(smooth.argmax())
    peak = float(edges[at] + edges[at + 1]) / 2
    return np.where(mask, image / (peak if abs(peak) > 1e-6 else 1.0), 0).astype(np.float32)


@lru_cache(maxsize=1)
def _template_brain() -> npt.NDArray[np.float32]:
    from nilearn import datasets

    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=2).dataobj) > 0
    t1 = np.asarray(datasets.load_mni152_template(resolution=2).dataobj, dtype=np.float32)
    return t1[brain]


def template_quantiles(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quantiles of the MNI152 brain's intensities, whose largest is 1."""
    return np.asarray(np.quantile(_template_brain(), shares))


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
    "histogram": histogram,
    "white-peak": white_peak,
    "none": unchanged,
}
