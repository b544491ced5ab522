"""A mask of a file brought onto a scan's grid, or refused because it is of another head."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from braintune.imaging.grid import Grid, resample_labels
from braintune.imaging.nifti import MAX_BYTES, ScanError, Volume, read_volume

Mask = npt.NDArray[np.bool_]
# Share of a mask that must lie within the scan: a neck cut off takes none of it.
_LEAST_INSIDE = 0.9
_FEWEST_VOXELS = 50
# FreeSurfer's editor leaves 1 where somebody erased a voxel.
_ERASED = 1
# nibabel reads its header into an array of a fixed size, which a short file does not fill.
_BROKEN = (OSError, EOFError, ValueError, TypeError, zlib.error)


def bring_mask(path: Path, scan: Volume) -> Mask:
    """Read a mask and bring it onto a scan's grid; each voxel takes the nearest one's value.

    Args:
        path: NIfTI or FreeSurfer's ``.mgz``; what is above 0 is brain.
        scan: The scan, in the same world.

    Returns:
        Of the scan's shape.

    Raises:
        ScanError: If the file can't be read, is empty, or does not overlap the scan.
    """
    found, threshold = (
        (_read_mgz(path), _ERASED) if path.suffix == ".mgz" else (read_volume(path), 0)
    )
    mask = found.data > threshold
    if mask.sum() < _FEWEST_VOXELS:
        raise ScanError("mask", f"The mask {path} is empty.")
    moved = resample_labels(
        mask.astype(np.uint8),
        Grid(_shape(mask), found.affine),
        Grid(_shape(scan.data), scan.affine),
    )
    brain = moved > 0
    inside = brain.sum() * _voxel(scan) / (mask.sum() * _voxel(found))
    if inside < _LEAST_INSIDE:
        msg = (
            f"Only {inside:.0%} of the mask {path} lies within the scan: it is of another scan, or"
            " in another space. Give masks in the scan's own space."
        )
        raise ScanError("mask", msg)
    return np.asarray(brain)


def _read_mgz(path: Path) -> Volume:
    """FreeSurfer's own format, through nibabel.

    Raises:
        ScanError: If it can't be read or is too large.
    """
    try:
        image = nib.MGHImage.from_filename(path)
        shape = image.shape[:3]
        if len(image.shape) > 3 or np.prod(shape, dtype=np.float64) * 4 > MAX_BYTES:
            raise ScanError("mask", f"The mask {path} has the shape {image.shape}.")
        data = np.asarray(image.dataobj, dtype=np.float32)
    except FileNotFoundError:
        raise ScanError("missing", f"The mask {path} does not exist.") from None
    except (*_BROKEN, ImageFileError) as error:
        raise ScanError("unreadable", f"The mask {path} can't be read: {error}.") from None
    return Volume(data, np.asarray(image.affine, dtype=np.float64))


def _voxel(volume: Volume) -> float:
    return abs(float(np.linalg.det(volume.affine[:3, :3])))


def _shape(data: npt.NDArray[np.generic]) -> tuple[int, int, int]:
    return data.shape[0], data.shape[1], data.shape[2]
