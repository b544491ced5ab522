"""Raw heads, prepared: from a file to the template's grid by one interpolation."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.imaging.grid import center_of_mass, ras_grid, resample
from braintune.imaging.heads.bias import without_field
from braintune.imaging.heads.limits import evidence_of, native_grid, refuse_wrong
from braintune.imaging.heads.registering import find_brain
from braintune.imaging.heads.result import RegisteredHead
from braintune.imaging.heads.template import MIDDLE
from braintune.imaging.nifti import ScanError, Volume, read_volume, spacing_of
from braintune.imaging.preparation import refuse_unfit
from braintune.recipe import HeadsRecipe, PrepareRecipe

Mask = npt.NDArray[np.bool_]
# A head is at least as large as this in each direction, in millimetres.
_LEAST_EXTENT = 80.0
# Voxels thicker than this tell too little of a brain's outline, in millimetres.
_THICKEST = 8.0
# Percentile that counts as the darkest intensity.
_BOTTOM = 0.1


def prepare_head(
    path: Path, recipe: PrepareRecipe, known: Callable[[Volume], Mask | None] | None = None
) -> RegisteredHead:
    """Take a raw head to the template.

    Args:
        path: A T1-weighted scan as the scanner wrote it, or one without skull.
        recipe: The preparation; its ``heads`` says how.
        known: Gives the brain mask of the scan, in RAS, on the scan's own voxels, where it is not
            to be found here.

    Raises:
        ScanError: If the file can't be read, is no whole head, or could not be registered.
    """
    start = time.perf_counter()
    scan = on_zero(to_ras(read_volume(path)), path)
    read = time.perf_counter() - start
    mask = known(scan) if known is not None else None
    head = register_head(scan, recipe, path, mask)
    return replace(head, seconds={"read": read, **head.seconds})


def register_head(
    scan: Volume, recipe: PrepareRecipe, path: Path, mask: Mask | None = None
) -> RegisteredHead:
    """Take a head that was read to the template.

    Args:
        scan: RAS, its background at 0.
        recipe: The preparation.
        path: What messages call it.
        mask: Its brain, if that is known.

    Raises:
        ScanError: If it could not be registered.
    """
    heads = recipe.heads or HeadsRecipe()
    found = find_brain(scan, heads, None if mask is None else mask.astype(np.float32))
    start = time.perf_counter()
    evidence = evidence_of(found.scan, found.share, found.map_)
    refuse_wrong(evidence, path)
    own = native_grid(scan)
    native = scan
    if found.field is not None:
        native = Volume(without_field(scan.data, own, found.field), scan.affine)
    if mask is None:
        mask = resample(Volume(found.share, found.scan.affine), own) > 0.5
    to_template = np.asarray(np.linalg.inv(found.map_))
    moved = np.asarray(to_template @ scan.affine)
    middle = np.array(MIDDLE)
    if recipe.center == "brain":
        middle = center_of_mass(Volume(native.data, moved), mask)
    grid = ras_grid(recipe.shape, recipe.spacing, middle)
    brain = resample(Volume(mask.astype(np.float32), moved), grid) > 0.5
    image = resample(Volume(native.data, moved), grid)
    if heads.skull == "strip":
        image = np.where(brain, image, 0).astype(np.float32)
    return RegisteredHead(
        native=native,
        mask=mask,
        to_template=to_template,
        grid=grid,
        image=image,
        brain=brain,
        stripped=found.stripped,
        evidence=evidence,
        seconds={**found.seconds, "resampling": time.perf_counter() - start},
    )


def to_ras(scan: Volume) -> Volume:
    """A scan with its axes permuted and flipped so that they run right, anterior and superior.

    Its voxels keep their places in the world, however oblique they are.

    Example:
        >>> scan = to_ras(Volume(np.zeros((2, 3, 4), np.float32), np.diag([-1.0, 1.0, 1.0, 1.0])))
        >>> scan.affine.diagonal().tolist(), float(scan.affine[0, 3])
        ([1.0, 1.0, 1.0, 1.0], -1.0)
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(scan.affine)
    data = apply_orientation(scan.data, orientation)
    affine = scan.affine @ inv_ornt_aff(orientation, scan.data.shape)
    return Volume(np.ascontiguousarray(data, dtype=np.float32), np.asarray(affine))


def on_zero(scan: Volume, path: Path) -> Volume:
    """A scan whose background is at 0 and which holds nothing below it.

    Raises:
        ScanError: If it can't be a whole head.
    """
    refuse_unfit(scan, path)
    spacing = spacing_of(scan.affine)
    extent = spacing * scan.data.shape
    if extent.min() < _LEAST_EXTENT:
        msg = (
            f"{path} covers {' × '.join(f'{n:.0f}' for n in extent)} mm, which holds no whole"
            f" head: each must be {_LEAST_EXTENT:.0f} or more."
        )
        raise ScanError("cut off", msg)
    if spacing.max() > _THICKEST:
        msg = (
            f"{path} has voxels of {' × '.join(f'{n:.1f}' for n in spacing)} mm, too thick to find"
            f" the brain in: at most {_THICKEST:.0f}."
        )
        raise ScanError("too coarse", msg)
    # A single wild voxel must not decide where the background is.
    bottom = min(float(np.percentile(scan.data, _BOTTOM)), 0.0)
    return Volume(np.maximum(scan.data - np.float32(bottom), 0), scan.affine)
