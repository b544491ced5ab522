"""A diffusion series in memory: the volumes that a tensor is fitted to, with their gradients."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.dwi_recipe import DwiRecipe
from braintune.errors import counted, listing
from braintune.imaging.dwi.gradients import Gradients, read_gradients
from braintune.imaging.dwi.masks import brain_mask
from braintune.imaging.dwi.shells import Indices, choose_volumes
from braintune.imaging.dwi.sidecars import DwiFiles, find_files
from braintune.imaging.intensity import Mask
from braintune.imaging.nifti import Affine, FloatArray, ScanError, Volume, read_header, read_volumes


@dataclass(frozen=True)
class Series:
    """What a tensor is fitted to.

    Attributes:
        files: Where it was read from.
        data: Signals, of shape (x, y, z, volumes): b = 0 volumes first.
        gradients: Of the volumes, in the frame of the file.
        unweighted: The mean b = 0 image, of shape (x, y, z).
        mask: The brain, of shape (x, y, z).
        affine: From voxel indices to world millimetres, of shape (4, 4).
    """

    files: DwiFiles
    data: npt.NDArray[np.float32]
    gradients: Gradients
    unweighted: FloatArray
    mask: Mask
    affine: Affine


def check_series(path: Path, recipe: DwiRecipe) -> None:
    """What a header and the gradients alone tell, without reading a voxel.

    Raises:
        ScanError: If files are missing or do not fit together, or the gradients leave tensors open.
    """
    _chosen(path, recipe)


def read_dwi(path: Path, recipe: DwiRecipe) -> Series:
    """Read a series with its gradients and its brain.

    Raises:
        ScanError: If files are missing or do not fit together, the gradients leave tensors open, or
            the voxels of the brain are no right signals.
    """
    files, gradients, unweighted, weighted = _chosen(path, recipe)
    volumes = np.concatenate([unweighted, weighted])
    series = read_volumes(path, volumes.tolist())
    data = series.data
    mean = np.nan_to_num(data[..., : len(unweighted)], posinf=0, neginf=0).mean(axis=-1)
    mask = brain_mask(Volume(mean, series.affine), files.mask)
    _refuse_unfit(data, volumes, mask, path)
    return Series(files, data, gradients.take(volumes), mean, mask, series.affine)


def _chosen(path: Path, recipe: DwiRecipe) -> tuple[DwiFiles, Gradients, Indices, Indices]:
    """Files and gradients, the b = 0 volumes, and those to fit beside them."""
    shape = tuple(int(n) for n in read_header(path).get_data_shape())
    if len(shape) != 4 or shape[3] < 2:
        msg = (
            f"{path} has the shape {shape}; a diffusion series is 4D. Choose one with --filter"
            " suffix=dwi, or leave 'dwi:' out."
        )
        raise ScanError("no series", msg)
    files = find_files(path)
    gradients = read_gradients(files, shape[3], recipe.b0_threshold)
    return files, gradients, *choose_volumes(gradients, recipe, path)


def _refuse_unfit(data: npt.NDArray[np.float32], volumes: Indices, mask: Mask, path: Path) -> None:
    """Refuse brains with holes, and volumes that are not there; outside the brain all may be."""
    inside = data[mask]
    broken = int((~np.isfinite(inside)).any(axis=1).sum())
    if broken:
        msg = f"{path} has {counted(broken, 'voxel')} in the brain that are NaN or infinite."
        raise ScanError("NaN", msg)
    if not len(inside):
        msg = f"{path} shows no brain: its b = 0 images have the same value everywhere."
        raise ScanError("constant", msg)
    empty = volumes[inside.max(axis=0) <= 0]
    if len(empty):
        msg = (
            f"{path} has no signal in volume {listing(empty, limit=6)} (counted from 0). Take such"
            " volumes out, with their b-values and directions."
        )
        raise ScanError("constant", msg)
