"""The diffusion tensor of every voxel, by DIPY's weighted least squares, and its maps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from braintune.extras import import_extra
from braintune.imaging.dwi.gradients import FloatArray, Gradients
from braintune.imaging.intensity import Mask

# From mm²/s to 10⁻³ mm²/s, in which diffusivities of tissue are about 1.
_UNIT = 1e3
# Voxels that DIPY fits at once: with as many the numbers stay in a processor's cache.
_STEP = 1000


@dataclass(frozen=True)
class Tensors:
    """The tensors of a mask's voxels, in the mask's order.

    Attributes:
        values: Eigenvalues in mm²/s, the largest first, of shape (voxels, 3).
        principal: Direction of the largest, in the frame of the gradients, of shape (voxels, 3).
    """

    values: FloatArray
    principal: FloatArray


def fit_tensors(
    data: npt.NDArray[np.float32], gradients: Gradients, mask: Mask, b0_threshold: float
) -> Tensors:
    """Fit a tensor to each voxel of a mask (Chung et al., NeuroImage 33, 2006).

    Args:
        data: Signals, of shape (x, y, z, volumes).
        gradients: Of the volumes.
        mask: Voxels to fit, of shape (x, y, z).
        b0_threshold: Up to this b-value a volume is b = 0.

    Raises:
        InputError: If DIPY is not installed.
    """
    dti = import_extra("dipy.reconst.dti", "diffusion")
    tables = import_extra("dipy.core.gradients", "diffusion")
    table = tables.gradient_table(gradients.bvals, bvecs=gradients.bvecs, b0_threshold=b0_threshold)
    fit = dti.TensorModel(table, fit_method="WLS", step=_STEP).fit(data[mask].astype(np.float64))
    return Tensors(np.asarray(fit.evals), np.asarray(fit.evecs[..., 0]))


def fractional_anisotropy(values: FloatArray) -> FloatArray:
    """From 0, where water moves alike in all directions, to 1, where it moves in one.

    Example:
        >>> float(fractional_anisotropy(np.array([[2.0, 2, 2], [1.0, 0, 0]]))[1])
        1.0
    """
    deviation = ((values - values.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    power = (values**2).sum(axis=-1)
    return np.asarray(np.sqrt(1.5 * deviation / np.where(power > 0, power, 1.0)))


def mean_diffusivity(values: FloatArray) -> FloatArray:
    """The mean of the eigenvalues, in 10⁻³ mm²/s."""
    return np.asarray(values.mean(axis=-1) * _UNIT)


def axial_diffusivity(values: FloatArray) -> FloatArray:
    """The largest eigenvalue, in 10⁻³ mm²/s."""
    return np.asarray(values[..., 0] * _UNIT)


def radial_diffusivity(values: FloatArray) -> FloatArray:
    """The mean of the two smaller eigenvalues, in 10⁻³ mm²/s."""
    return np.asarray(values[..., 1:].mean(axis=-1) * _UNIT)


# None of them depends on the frame: a rotated tensor has the same eigenvalues.
MAPS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "fa": fractional_anisotropy,
    "md": mean_diffusivity,
    "ad": axial_diffusivity,
    "rd": radial_diffusivity,
}
