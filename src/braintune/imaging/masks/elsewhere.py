"""A scan's brain mask from elsewhere: a file that the user has, or a program that is installed."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.heads_recipe import BrainSource
from braintune.imaging.masks.bringing import bring_mask
from braintune.imaging.masks.programs import PROGRAMS, mask_by_program
from braintune.imaging.nifti import ScanError, Volume

Mask = npt.NDArray[np.bool_]


def mask_from_elsewhere(source: BrainSource, scan: Volume, mask: Path | None) -> Mask | None:
    """The brain mask of a scan, as far as it is not to be found by registration.

    Args:
        source: Where ``heads: {brain: ...}`` says that it is from.
        scan: The scan, in its own space.
        mask: The user's mask of this scan, for ``masks``.

    Returns:
        Of the scan's shape; None for ``template`` and ``none``.

    Raises:
        InputError: If the program is not installed.
        ScanError: If there is no mask, or it is of another scan, or the program fails.
    """
    if source in PROGRAMS:
        return mask_by_program(source, scan)
    if source != "masks":
        return None
    if mask is None:
        msg = (
            "There is no mask of this scan. Name the folder that holds it with --masks, or set"
            " 'heads: {brain: template}', which finds the brain itself."
        )
        raise ScanError("mask", msg)
    return bring_mask(mask, scan)
