"""Signal against noise: what a scan's intensities alone tell of its quality.

Tissues are given as the intensities of voxels that the template says are of it. A template that was
moved by an affine transform alone misses the folds of some people, so means and deviations are
medians and median absolute deviations, which bear a share of wrong voxels.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.intensity import MASKS
from braintune.imaging.nifti import Volume, spacing_of

Values = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
# Of a normal distribution, the standard deviation for each median absolute deviation.
_SD_OF_MAD = 1.4826
# Air is told from the head on every n-th voxel, so that it takes no longer for small voxels.
_AIR_MM = 3.0
_FEWEST = 50


def spread(values: Values) -> float:
    """1.4826 times the median absolute deviation: the standard deviation if values are normal.

    Example:
        >>> round(spread(np.array([1.0, 2, 3, 4, 100])), 4)
        1.4826
    """
    return _SD_OF_MAD * float(np.median(np.abs(values - np.median(values))))


def snr(tissue: Values) -> float:
    """Signal-to-noise ratio within one tissue: its level for each standard deviation.

    As MRIQC's SNR of a tissue (Magnotta and Friedman 2006, doi:10.1007/s10278-006-0264-x), robust.

    Args:
        tissue: Intensities of shape (voxels,).

    Returns:
        The ratio; NaN for fewer than fifty voxels or none that differ.

    Example:
        >>> round(snr(np.random.default_rng(0).normal(100, 5, 20_000)))
        20
    """
    if len(tissue) < _FEWEST or (noise := spread(tissue)) == 0:
        return float("nan")
    return float(np.median(tissue)) / noise


def cnr(gray: Values, white: Values, air: Values) -> float:
    """Contrast-to-noise ratio between grey and white matter (Magnotta and Friedman 2006).

    The difference of their levels for each standard deviation of white matter, grey matter and air
    together, as in MRIQC, robust.

    Args:
        gray: Intensities of grey matter, of shape (voxels,).
        white: The same of white matter.
        air: The same outside of the head, empty if there is none.

    Returns:
        The ratio, above 0 where white matter is brighter; NaN for too few voxels or no noise.

    Example:
        >>> draw = np.random.default_rng(0).normal
        >>> round(cnr(draw(60, 3, 9999), draw(100, 4, 9999), np.zeros(0)), 1)
        8.0
    """
    if min(len(gray), len(white)) < _FEWEST:
        return float("nan")
    noise = np.sqrt(
        spread(gray) ** 2 + spread(white) ** 2 + (spread(air) ** 2 if len(air) >= _FEWEST else 0)
    )
    contrast = float(np.median(white) - np.median(gray))
    return contrast / float(noise) if noise > 0 else float("nan")


def fber(head: Values, air: Values) -> float:
    """Foreground–background energy ratio: mean square within the head for each outside of it.

    After Shehzad and others 2015 (the quality protocol of the Preprocessed Connectomes Project): it
    falls with ghosts, motion and noise.

    Args:
        head: Intensities of shape (voxels,).
        air: The same outside of the head.

    Returns:
        The ratio; NaN where there is no air or all of it is 0, as behind a mask.

    Example:
        >>> fber(np.full(100, 10.0), np.full(100, 2.0))
        25.0
    """
    if min(len(head), len(air)) < _FEWEST:
        return float("nan")
    energy = float(np.mean(np.square(air, dtype=np.float64)))
    return (
        float(np.mean(np.square(head, dtype=np.float64))) / energy if energy > 0 else float("nan")
    )


def head_and_air(volume: Volume) -> tuple[Values, Values]:
    """The intensities of a head, with what is inside it, and of the air around it.

    Args:
        volume: A scan with background.

    Returns:
        Two arrays of shape (voxels,), of every n-th voxel.
    """
    steps = np.maximum(1, np.round(_AIR_MM / spacing_of(volume.affine))).astype(int).tolist()
    data = volume.data[:: steps[0], :: steps[1], :: steps[2]]
    found = ndimage.binary_closing(np.pad(MASKS["foreground"](data), 2), iterations=2)
    head = ndimage.binary_fill_holes(found)[2:-2, 2:-2, 2:-2]
    # The skin's edge is half air, and belongs to neither.
    air = ~ndimage.binary_dilation(head, iterations=2)
    return data[head], data[air]
