"""From the template's space back to a scan's own voxels."""

import numpy as np
import numpy.typing as npt

from braintune.imaging.grid import Grid, resample, resample_labels
from braintune.imaging.nifti import Affine, FloatArray, Volume


def map_to_native(values: FloatArray, grid: Grid, to_template: Affine, native: Grid) -> FloatArray:
    """Bring a map, such as an explanation, from a prepared grid to a scan's own voxels.

    Args:
        values: Of the shape of ``grid``.
        grid: Where they lie, in the template's millimetres.
        to_template: From the scan's millimetres to the template's.
        native: The scan's own grid.

    Returns:
        An array of the shape of ``native``; what lies outside of ``grid`` is 0.
    """
    return resample(Volume(values, _back(grid, to_template)), native)


def labels_to_native(
    labels: npt.NDArray[np.uint8], grid: Grid, to_template: Affine, native: Grid
) -> npt.NDArray[np.uint8]:
    """Bring a label map back; each voxel takes the nearest label. Arguments as `map_to_native`."""
    return resample_labels(labels, Grid(grid.shape, _back(grid, to_template)), native)


def _back(grid: Grid, to_template: Affine) -> Affine:
    return np.asarray(np.linalg.inv(to_template) @ grid.affine)
