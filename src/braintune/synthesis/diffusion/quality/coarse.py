"""Prepared scans as rows of coarse voxels, to compare and to read conditions from."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.store import PreparedStore

Rows = npt.NDArray[np.float32]
_COARSE_MM = 8.0


def coarse_rows(store: PreparedStore, scan_ids: Sequence[str]) -> Rows:
    """Scans blurred and sampled at about 8 mm.

    A sample has no noise of a scanner and real scans have; the blur takes most of it away, so that
    distances tell of anatomy.

    Returns:
        Of shape (scans, voxels).
    """
    factor = max(1, round(_COARSE_MM / store.recipe.spacing))
    rows = []
    for scan_id in scan_ids:
        image = np.array(store.read(scan_id)[0], dtype=np.float32)
        blurred = ndimage.gaussian_filter(image, factor / 2)
        rows.append(blurred[::factor, ::factor, ::factor].ravel())
    return np.stack(rows)
