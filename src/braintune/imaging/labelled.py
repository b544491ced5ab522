"""Scans with their label maps: prepared together, and prepared whole.

A network that segments answers for all of a scan, so intensities are scaled over all of it, on the
lattice of the prepared grid, whatever part of it ``prepare: shape`` cuts out for training.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import (
    Grid,
    covering,
    resample,
    resample_labels,
)
from braintune.imaging.head_scan import registered_head
from braintune.imaging.intensity import MASKS, RULES
from braintune.imaging.label_maps import Labels, LabelTable, read_label_map
from braintune.imaging.nifti import ScanError, Volume, read_volume
from braintune.imaging.preparation import (
    FEWEST_BRAIN_VOXELS,
    PreparedScan,
    as_halves,
    grid_of,
    refuse_unfit,
)
from braintune.recipe import PrepareRecipe

# What a resampled scan may have; a brain at 0.5 mm has 70 million.
_MOST_VOXELS = 1_000_000_000


@dataclass(frozen=True)
class WholeScan:
    """All of a scan, as a network sees it.

    Attributes:
        image: Of shape (channels, x, y, z), float16, on ``grid``.
        grid: RAS+, at the recipe's spacing, over all of the scan.
        inner: What ``prepare: shape`` keeps of it, on the same lattice.
        native: The scan's own grid.
        brain_ml: Volume of the mask that intensities were scaled in, in millilitres.
    """

    image: npt.NDArray[np.float16]
    grid: Grid
    inner: Grid
    native: Grid
    brain_ml: float

    def prepared(self) -> PreparedScan:
        """The part that a store keeps."""
        volume = Volume(self.image[0].astype(np.float32), self.grid.affine)
        image = resample(volume, self.inner)[None].astype(np.float16)
        voxels = hashlib.sha256(image.tobytes()).hexdigest()
        return PreparedScan(image, self.inner.affine, self.brain_ml, voxels)


def prepare_whole(path: Path, recipe: PrepareRecipe) -> WholeScan:
    """Reorient and resample all of a scan, and scale its intensities.

    Raises:
        ScanError: If the file can't be read or holds nothing to learn from.
    """
    volume = read_volume(path)
    refuse_unfit(volume, path)
    if recipe.heads is not None:
        return _whole_head(path, recipe, Grid(volume.data.shape, volume.affine))
    inner = grid_of(volume, recipe)
    grid = covering(inner, volume)
    if np.prod(grid.shape, dtype=np.float64) > _MOST_VOXELS:
        msg = f"{path} would have {grid.shape} voxels of {recipe.spacing} mm. Check its header."
        raise ScanError("too large", msg)
    data = resample(volume, grid)
    brain = MASKS[recipe.brain](data)
    if brain.sum() < FEWEST_BRAIN_VOXELS:
        msg = f"{path} has fewer than {FEWEST_BRAIN_VOXELS} voxels that are not background."
        raise ScanError("outside the grid", msg)
    return WholeScan(
        image=as_halves(RULES[recipe.intensity](data, brain)[None], path),
        grid=grid,
        inner=inner,
        native=Grid(volume.data.shape, volume.affine),
        brain_ml=float(brain.sum()) * recipe.spacing**3 / 1000,
    )


def _whole_head(path: Path, recipe: PrepareRecipe, native: Grid) -> WholeScan:
    """All of a registered head's brain.

    The lattice stays in the scan's own world, turned and stretched as the template lies in it, so
    that answers come back to the scan's voxels as those of any other scan do.
    """
    head = registered_head(path, recipe)
    back = np.linalg.inv(head.to_template)
    inner = Grid(recipe.shape, np.asarray(back @ head.grid.affine))
    kept = head.mask if recipe.heads and recipe.heads.skull == "strip" else head.native.data > 0
    box = ndimage.find_objects(kept.astype(np.uint8))[0]
    corner = np.eye(4)
    corner[:3, 3] = [part.start for part in box]
    grid = covering(inner, Volume(head.native.data[box], np.asarray(head.native.affine @ corner)))
    brain = resample(Volume(head.mask.astype(np.float32), head.native.affine), grid) > 0.5
    data = resample(head.native, grid)
    if recipe.heads and recipe.heads.skull == "strip":
        data = np.where(brain, data, 0).astype(np.float32)
    within = brain if recipe.brain == "nonzero" else MASKS[recipe.brain](data)
    return WholeScan(
        image=as_halves(RULES[recipe.intensity](data, within)[None], path),
        grid=grid,
        inner=inner,
        native=native,
        brain_ml=head.evidence.brain_ml,
    )


def prepare_labelled(
    image: Path, label_map: Path, recipe: PrepareRecipe, table: LabelTable
) -> tuple[PreparedScan, Labels]:
    """Prepare a scan and its label map for training, on the same grid.

    Raises:
        ScanError: If a file can't be read, they do not fit together, or labelled voxels lie
            outside of ``prepare: shape``.
    """
    whole = prepare_whole(image, recipe)
    native = read_label_map(label_map, whole.native, table)
    everywhere = resample_labels(native, whole.native, whole.grid)
    labels = resample_labels(everywhere, whole.grid, whole.inner)
    lost = int((everywhere > 0).sum()) - int((labels > 0).sum())
    if lost:
        msg = (
            f"{label_map} has {lost:,} labelled voxels outside of the {recipe.shape} voxels of"
            f" {recipe.spacing} mm that are prepared. Set a larger 'prepare: {{shape: ...}}'."
        )
        raise ScanError("labels outside the grid", msg)
    return whole.prepared(), labels
