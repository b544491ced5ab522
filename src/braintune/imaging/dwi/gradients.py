"""Gradients as their files say them: b-values and unit directions, checked before they are used.

The frame of ``.bvec`` files is FSL's and BIDS's: along the image's array axes, the first of which
counts from right to left whatever the affine says. `world_frame` turns it into the world's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.errors import listing
from braintune.imaging.dwi.sidecars import DwiFiles
from braintune.imaging.nifti import Affine, ScanError

FloatArray = npt.NDArray[np.float64]

_LARGEST_FILE = 10_000_000
# Rounded directions are this far from unit length at most; beyond it, lengths mean something.
_ROUNDING = 0.05


@dataclass(frozen=True)
class Gradients:
    """How each volume of a series is weighted.

    Attributes:
        bvals: b-values in s/mm², of shape (volumes,).
        bvecs: Unit vectors in the frame of the file, of shape (volumes, 3), or 0 where b is 0.
    """

    bvals: FloatArray
    bvecs: FloatArray

    def take(self, volumes: npt.NDArray[np.int_]) -> "Gradients":
        """The gradients of some volumes."""
        return Gradients(self.bvals[volumes], self.bvecs[volumes])


def read_gradients(files: DwiFiles, volumes: int, b0_threshold: float) -> Gradients:
    """Read the gradients of a series.

    Rows or columns may be volumes. Directions are made unit length; where their lengths differ
    between volumes of one nominal b-value, a volume's b-value is the nominal one times the length's
    square, which is how scanners write several shells.

    Args:
        files: Where they are.
        volumes: How many volumes the series has.
        b0_threshold: Up to this b-value, in s/mm², a volume is b = 0 and needs no direction.

    Raises:
        ScanError: If a file is no table of numbers, numbers are missing, lengths do not match, or
            weighted volumes lack a direction.
    """
    bvals = _bvals(files, volumes)
    bvecs = _bvecs(files, volumes)
    weighted = bvals > b0_threshold
    broken = np.flatnonzero(weighted & ~np.isfinite(bvecs).all(axis=1))
    bvecs = np.where(np.isfinite(bvecs), bvecs, 0.0)
    lengths = np.linalg.norm(bvecs, axis=1)
    broken = np.union1d(broken, np.flatnonzero(weighted & (lengths < 1e-3)))
    if len(broken):
        msg = (
            f"{files.bvec} has no direction for {_volumes(broken)}, though the b-values there are"
            f" {listing(f'{b:g}' for b in bvals[broken])}. Trace or ADC images are no part of a"
            " series: take them, and their b-values, out."
        )
        raise ScanError("gradients", msg)
    bvals = _scaled(bvals, lengths, weighted)
    unit = bvecs / np.where(lengths > 0, lengths, 1.0)[:, None]
    return Gradients(bvals, unit)


def world_frame(affine: Affine) -> FloatArray:
    """The rotation from the frame of ``.bvec`` files to the world's, of shape (3, 3).

    FSL and BIDS define directions along the array axes, with the first axis flipped if the affine's
    determinant is positive, so that the frame is always left-handed.

    Example:
        >>> world_frame(np.diag([2.0, 2, 2, 1])).tolist()
        [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        >>> world_frame(np.diag([-2.0, 2, 2, 1])).tolist()
        [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    # The nearest rotation: voxel sizes, and shear from rounding, are no part of a direction.
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    axes = left @ right
    if np.linalg.det(axes) > 0:
        axes = axes @ np.diag([-1.0, 1.0, 1.0])
    return np.asarray(axes)


def _bvals(files: DwiFiles, volumes: int) -> FloatArray:
    table = _read_numbers(files.bval)
    if 1 not in table.shape:
        msg = f"{files.bval} has {table.shape[0]} × {table.shape[1]} numbers, not one a volume."
        raise ScanError("gradients", msg)
    bvals = table.ravel()
    _demand_count(files.bval, len(bvals), files.series, volumes)
    if not np.isfinite(bvals).all() or bvals.min() < 0:
        wrong = np.flatnonzero(~np.isfinite(bvals) | (bvals < 0))
        msg = f"{files.bval} has negative b-values, or no numbers, for {_volumes(wrong)}."
        raise ScanError("gradients", msg)
    return bvals


def _bvecs(files: DwiFiles, volumes: int) -> FloatArray:
    table = _read_numbers(files.bvec)
    if 3 not in table.shape:
        msg = (
            f"{files.bvec} has {table.shape[0]} × {table.shape[1]} numbers; a direction has 3, so"
            f" there should be 3 rows of {volumes}."
        )
        raise ScanError("gradients", msg)
    bvecs = table.T if table.shape[0] == 3 and table.shape[1] != 3 else table
    if table.shape == (3, 3):
        bvecs = table.T  # BIDS: a row an axis
    _demand_count(files.bvec, len(bvecs), files.series, volumes)
    return bvecs


def _demand_count(path: Path, count: int, series: Path, volumes: int) -> None:
    if count != volumes:
        msg = (
            f"{path} is of {count} volumes, but {series} has {volumes}. Take the files of one"
            " conversion; a volume that was cut off must be cut off in all of them."
        )
        raise ScanError("gradients", msg)


def _scaled(bvals: FloatArray, lengths: FloatArray, weighted: npt.NDArray[np.bool_]) -> FloatArray:
    """b-values times squared lengths, if the lengths say more than how numbers were rounded."""
    if not weighted.any():
        return bvals
    nominal = np.median(lengths[weighted])
    if (np.abs(lengths[weighted] / nominal - 1) <= _ROUNDING).all():
        return bvals
    return np.where(weighted, bvals * lengths**2, bvals)


def _volumes(indices: npt.NDArray[np.int_]) -> str:
    """Volumes by number, from 0 as FSL's and MRtrix's tools count."""
    return f"volume {listing(indices, limit=6)} (counted from 0)"


def _read_numbers(path: Path) -> FloatArray:
    """A table of numbers, separated by spaces, tabs or commas.

    Raises:
        ScanError: If it is no such table.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ScanError("gradients", f"{path} is larger than 10 MB, which no gradients are.")
        lines = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
        rows = [[float(word) for word in line.split()] for line in lines if line.strip()]
    except OSError as error:
        raise ScanError("gradients", f"{path} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise ScanError("gradients", f"{path} is no table of numbers: {error}.") from None
    if not rows or len({len(row) for row in rows}) > 1:
        raise ScanError("gradients", f"{path} is no table: its lines differ in length, or are none")
    return np.array(rows, dtype=np.float64)
