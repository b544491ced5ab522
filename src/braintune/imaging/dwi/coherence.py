"""Whether fibres hang together: what tells swapped or flipped axes of a ``.bvec`` file.

Directions along a bundle point to the next voxel of the bundle. If axes of the gradients are
swapped or flipped they still agree with their neighbours, but point elsewhere. So the index of
Schilling et al. (Magn. Reson. Imaging 58, 2019) is largest for the right gradients: it counts
neighbours that lie along each other's direction. A swap turns all tensors alike, so it is enough to
fit once and turn the directions.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.imaging.dwi.gradients import FloatArray, world_frame
from braintune.imaging.intensity import Mask
from braintune.imaging.nifti import Affine, ScanError

# Below it, directions are mostly noise.
_LEAST_FA = 0.2
# A neighbour lies along a direction if the angle between is less: of the 26 neighbours, some always
# does.
_CONE = np.cos(np.radians(30.0))
# A change of axes is better beyond doubt if its index is so much larger, in all of the scan, and if
# the gain is so many of its standard errors over blocks of neighbouring voxels.
_LEAST_GAIN = 1.05
_LEAST_Z = 4.0
_BLOCK = 2
_OFFSETS = [o for o in itertools.product((-1, 0, 1), repeat=3) if o > (0, 0, 0)]


@dataclass(frozen=True)
class AxisChange:
    """One of the 24 ways to order and flip three axes, opposite directions being the same.

    Attributes:
        order: Which axis comes first, second and third.
        signs: 1, or -1 for an axis that is flipped.
    """

    order: tuple[int, int, int]
    signs: tuple[int, int, int]

    @property
    def matrix(self) -> FloatArray:
        """The change as a matrix on directions, of shape (3, 3)."""
        matrix = np.zeros((3, 3))
        matrix[range(3), self.order] = self.signs
        return matrix

    def words(self) -> str:
        """The rows of a mended file in terms of its present rows.

        Example:
            >>> AxisChange((1, 0, 2), (1, 1, -1)).words()
            'y, x, -z'
        """
        letters = ["xyz"[axis] for axis in self.order]
        return ", ".join(
            f"-{letter}" if sign < 0 else letter
            for letter, sign in zip(letters, self.signs, strict=True)
        )


def axis_changes() -> list[AxisChange]:
    """All 24 changes; the first changes nothing."""
    signs = [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)]
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return [AxisChange(order, sign) for order in orders for sign in signs]


def coherence(
    fa: npt.NDArray[np.floating], principal: npt.NDArray[np.floating], mask: Mask, affine: Affine
) -> FloatArray:
    """The index under every change of axes, by blocks of neighbouring voxels.

    Args:
        fa: Fractional anisotropy of the mask's voxels, of shape (voxels,).
        principal: Their principal directions in the frame of the ``.bvec`` file, of shape
            (voxels, 3).
        mask: Where they are, of shape (x, y, z).
        affine: From voxel indices to world millimetres.

    Returns:
        An array of shape (24, blocks); the sum over blocks is a change's index.
    """
    frame = world_frame(affine)
    strong = np.flatnonzero(fa > _LEAST_FA)
    places = np.argwhere(mask)[strong]
    number = np.full(tuple(n + 2 for n in mask.shape), -1)
    number[tuple((places + 1).T)] = np.arange(len(strong))
    _, block = np.unique(places // _BLOCK, axis=0, return_inverse=True)
    block = block.ravel()
    blocks = int(block.max()) + 1 if len(block) else 0
    fa, principal = fa[strong], principal[strong]
    changes = axis_changes()
    index = np.zeros((len(changes), blocks))
    for offset in _OFFSETS:
        other = number[tuple((places + 1 + offset).T)]
        one = np.flatnonzero(other >= 0)
        other = other[one]
        weight = np.minimum(fa[one], fa[other])
        step = frame.T @ affine[:3, :3] @ np.array(offset)
        step /= np.linalg.norm(step)
        for row, change in zip(index, changes, strict=True):
            along = np.abs(principal @ (change.matrix.T @ step)) > _CONE
            both = along[one] & along[other]
            row += np.bincount(block[one[both]], weight[both], minlength=blocks)
    return index


def better_change(index: FloatArray) -> AxisChange | None:
    """A change of axes under which fibres hang together better beyond doubt, or None.

    Args:
        index: What `coherence` gives.
    """
    totals = index.sum(axis=1)
    best = int(totals.argmax())
    if totals[best] <= _LEAST_GAIN * totals[0]:
        return None
    gains = index[best] - index[0]
    error = float(gains.std() * np.sqrt(len(gains)))
    return axis_changes()[best] if gains.sum() >= _LEAST_Z * error else None


def refuse_swapped(index: FloatArray, bvec: Path) -> None:
    """Refuse gradients whose axes are in the wrong order or direction.

    Args:
        index: What `coherence` gives.
        bvec: The file of the directions, for the message.

    Raises:
        ScanError: With the change that would mend them.
    """
    change = better_change(index)
    if change is None:
        return
    totals = index.sum(axis=1)
    gain = float(totals.max() / max(totals[0], 1e-9) - 1)
    msg = (
        f"{bvec} has axes in the wrong order or direction: fibres hang together better by"
        f" {min(gain, 99):.0%} if its rows x, y, z become {change.words()}. Convert the series"
        " again, or mend the file. FA and MD do not depend on it: 'prepare: {dwi: {gradients:"
        " trust}}' takes it as it is."
    )
    raise ScanError("gradients", msg)
