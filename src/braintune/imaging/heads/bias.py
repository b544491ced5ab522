"""The bias field of a scan, by N4 (Tustison and others, IEEE Trans. Med. Imaging 29, 2010)."""

import numpy as np
import numpy.typing as npt

from braintune.imaging.grid import Grid, resample
from braintune.imaging.nifti import FloatArray, Volume, spacing_of

# Voxels that the field is estimated on, in millimetres: it changes over centimetres.
_SPACING = 4.0
_STEPS = (30, 20, 10)
_THRESHOLD = 1e-3
_CONTROL_POINTS = (4, 4, 4)


def log_field(scan: Volume, mask: npt.NDArray[np.bool_]) -> Volume:
    """The logarithm of the bias field, on voxels of about 4 mm; it is 0 in the mask's mean.

    Args:
        scan: The scan, nothing below 0.
        mask: Where tissue is.
    """
    import SimpleITK

    # One thread adds up in one order, so the same scan gives the same field.
    spacing = spacing_of(scan.affine)
    shrink = np.maximum(np.round(_SPACING / spacing), 1).astype(int)
    image = _coarse(scan.data, shrink)
    inside = _coarse(mask.astype(np.float32), shrink) > 0.5
    fields = []
    for values in (image, inside.astype(np.uint8)):
        field = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.T))
        field.SetSpacing([float(s) for s in spacing * shrink])
        fields.append(field)
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfThreads(1)
    corrector.SetMaximumNumberOfIterations(_STEPS)
    corrector.SetConvergenceThreshold(_THRESHOLD)
    corrector.SetNumberOfControlPoints(_CONTROL_POINTS)
    corrector.Execute(*fields)
    log = SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(fields[0])).T
    log = np.asarray(log, dtype=np.float32)
    # The middle of a coarse voxel lies in the middle of the voxels that it is made of.
    move = np.diag([*shrink.astype(float), 1.0])
    move[:3, 3] = (shrink - 1) / 2
    return Volume(log - log[inside].mean(), np.asarray(scan.affine @ move))


def without_field(data: FloatArray, grid: Grid, log: Volume) -> FloatArray:
    """A scan divided by its bias field.

    Args:
        data: Intensities on ``grid``.
        grid: The scan's own grid.
        log: The field's logarithm.
    """
    # Beyond the middle of the outermost coarse voxels the field goes on as it is there.
    padded = np.pad(log.data, 2, mode="edge")
    move = np.eye(4)
    move[:3, 3] = -2
    field = resample(Volume(padded, np.asarray(log.affine @ move)), grid)
    return np.asarray(data / np.exp(field), dtype=np.float32)


def _coarse(data: FloatArray, shrink: npt.NDArray[np.int_]) -> FloatArray:
    """Means over blocks of voxels; what is left over at the ends is cut off."""
    x, y, z = (n // s for n, s in zip(data.shape, shrink, strict=True))
    a, b, c = (int(s) for s in shrink)
    cut = data[: x * a, : y * b, : z * c]
    return np.asarray(cut.reshape(x, a, y, b, z, c).mean(axis=(1, 3, 5)), dtype=np.float32)
