"""Which scans are the same: a hash of the voxels, whatever the file's name, header or packing."""

import hashlib
from pathlib import Path

import numpy as np

from braintune.imaging.nifti import ScanError, read_volume


def image_hash(path: Path) -> str:
    """SHA-256 of a scan's voxels, or nothing if the file can't be read.

    Args:
        path: A NIfTI file.
    """
    try:
        volume = read_volume(path)
    except (ScanError, OSError):
        return ""
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    found = hashlib.sha256(repr(data.shape).encode())
    found.update(data.tobytes())
    return found.hexdigest()
