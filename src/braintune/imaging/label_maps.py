"""Label maps: which values they may hold, and reading one beside its image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.errors import listing
from braintune.imaging.grid import Grid
from braintune.imaging.nifti import ScanError, read_volume

Labels = npt.NDArray[np.uint8]
# How far the corners of two grids may be apart, in voxels, and the grids be the same: files are
# often written with an affine of few digits.
_SAME_GRID = 0.1
MOST_LABELS = 254


@dataclass(frozen=True)
class LabelTable:
    """What the values of label maps mean; 0 is the background.

    Within braintune labels are numbered 1, 2, … in the order of their values.

    Attributes:
        values: The values in files, rising.
        names: The structure of each.
        others: Whether other values are refused, or taken for background.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    others: str = "refuse"

    def __len__(self) -> int:
        return len(self.values)

    def written(self, numbers: Labels) -> npt.NDArray[np.uint16]:
        """The values of files from braintune's numbers.

        Example:
            >>> LabelTable((47, 48), ("right", "left")).written(np.array([0, 1, 2], np.uint8))
            array([ 0, 47, 48], dtype=uint16)
        """
        return np.array([0, *self.values], dtype=np.uint16)[numbers]


def read_label_map(path: Path, image: Grid, table: LabelTable) -> Labels:
    """Read the label map of an image.

    Args:
        path: The file.
        image: The image's own grid, which the label map must share.
        table: The values that it may hold.

    Returns:
        Labels numbered from 1, of the image's shape.

    Raises:
        ScanError: If the file can't be read, its grid is another, or a value is no declared label.
    """
    volume = read_volume(path)
    _demand_grid(path, Grid(volume.data.shape, volume.affine), image)
    rounded = np.rint(volume.data)
    if not np.array_equal(rounded, volume.data):
        msg = (
            f"{path} holds values that are no whole numbers, such as"
            f" {volume.data[rounded != volume.data][0]:g}: give a label map, not probabilities."
        )
        raise ScanError("not labels", msg)
    found, places = np.unique(rounded.astype(np.int64), return_inverse=True)
    unknown = sorted(set(found.tolist()) - {0, *table.values})
    if unknown and table.others == "refuse":
        msg = (
            f"{path} holds the values {listing(unknown)}, which 'task: labels' does not declare"
            f" (it has {listing(table.values)}). Declare them, or set 'task: {{others:"
            " background}'."
        )
        raise ScanError("undeclared labels", msg)
    number = {value: index for index, value in enumerate(table.values, start=1)}
    numbers = np.array([number.get(value, 0) for value in found.tolist()], dtype=np.uint8)
    return numbers[places.reshape(rounded.shape)]


def _demand_grid(path: Path, own: Grid, image: Grid) -> None:
    """Refuse a label map whose voxels are not the image's."""
    if own.shape != image.shape:
        msg = (
            f"{path} has {_shape(own)} voxels, its image {_shape(image)}: they are not on one grid."
            " Resample the label map to its image (nearest neighbour) first."
        )
        raise ScanError("another grid", msg)
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in own.shape], indexing="ij")).reshape(3, 8)
    corners = np.vstack([corners, np.ones(8)])
    moved = np.linalg.inv(image.affine) @ own.affine @ corners
    apart = float(np.abs(moved - corners).max())
    if apart > _SAME_GRID:
        msg = (
            f"{path} lies up to {apart:.1f} voxels beside its image: their affines differ. Resample"
            " the label map to its image (nearest neighbour), or correct the affine."
        )
        raise ScanError("another grid", msg)


def _shape(grid: Grid) -> str:
    return " × ".join(str(n) for n in grid.shape)
