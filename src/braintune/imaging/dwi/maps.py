"""From a diffusion series to the maps of its tensors, on the series' own grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braintune.dwi_recipe import DwiRecipe
from braintune.imaging.dwi.coherence import coherence, refuse_swapped
from braintune.imaging.dwi.series import Series, read_dwi
from braintune.imaging.dwi.tensor import MAPS, Tensors, fit_tensors, fractional_anisotropy
from braintune.imaging.intensity import Mask
from braintune.imaging.nifti import Affine, FloatArray


@dataclass(frozen=True)
class TensorMaps:
    """Maps of one series.

    Attributes:
        maps: All of them by name, each of shape (x, y, z), 0 outside the brain: ``fa``; ``md``,
            ``ad`` and ``rd`` in 10⁻³ mm²/s.
        unweighted: The mean b = 0 image, of shape (x, y, z).
        mask: The brain, of shape (x, y, z).
        affine: From voxel indices to world millimetres, of shape (4, 4).
    """

    maps: dict[str, FloatArray]
    unweighted: FloatArray
    mask: Mask
    affine: Affine


def tensor_maps(path: Path, recipe: DwiRecipe) -> TensorMaps:
    """Read a series, fit its tensors and draw their maps.

    Raises:
        ScanError: If the series can't be used, or if its gradients' axes are in the wrong order.
        InputError: If DIPY is not installed.
    """
    series = read_dwi(path, recipe)
    tensors = fit_tensors(series.data, series.gradients, series.mask, recipe.b0_threshold)
    if recipe.gradients == "check":
        _check_axes(series, tensors)
    maps = {name: _filled(draw(tensors.values), series.mask) for name, draw in MAPS.items()}
    return TensorMaps(maps, series.unweighted, series.mask, series.affine)


def _check_axes(series: Series, tensors: Tensors) -> None:
    index = coherence(
        fractional_anisotropy(tensors.values), tensors.principal, series.mask, series.affine
    )
    refuse_swapped(index, series.files.bvec)


def _filled(values: np.ndarray, mask: Mask) -> FloatArray:
    full = np.zeros(mask.shape, dtype=np.float32)
    full[mask] = values
    return full
